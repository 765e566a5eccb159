//! Which resource claims hold which of our devices.

use std::collections::BTreeMap;

use afterglow_crds::labels::DRIVER;
use k8s_openapi::api::resource::v1::ResourceClaim;

/// A device that a claim was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allocated {
    /// The request of the claim that it answers.
    pub(super) request: String,
    /// Its name in the `ResourceSlice`.
    pub(super) device: String,
}

/// What a claim was given of this node's devices.
pub(super) fn allocated(claim: &ResourceClaim, node: &str) -> Vec<Allocated> {
    claim
        .status
        .iter()
        .filter_map(|status| status.allocation.as_ref()?.devices.as_ref()?.results.as_ref())
        .flatten()
        .filter(|result| result.driver == DRIVER && result.pool == node)
        .map(|result| Allocated {
            // `REQUEST/SUBREQUEST`, where the claim had a choice: the kubelet knows the request only.
            request: result.request.split('/').next().unwrap_or_default().to_owned(),
            device: result.device.clone(),
        })
        .collect()
}

/// How many claims hold each of this node's devices.
pub fn held(claims: &[ResourceClaim], node: &str) -> BTreeMap<String, usize> {
    let mut held = BTreeMap::new();
    for result in claims.iter().flat_map(|claim| allocated(claim, node)) {
        *held.entry(result.device).or_default() += 1;
    }
    held
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::resource::v1::{
        AllocationResult, DeviceAllocationResult, DeviceRequestAllocationResult, ResourceClaimStatus,
    };

    use super::*;

    /// A claim that was given these (driver, pool, device, request).
    pub(in crate::lend) fn claim(
        name: &str,
        uid: &str,
        results: &[(&str, &str, &str, &str)],
    ) -> ResourceClaim {
        let results = results
            .iter()
            .map(|(driver, pool, device, request)| DeviceRequestAllocationResult {
                driver: (*driver).into(),
                pool: (*pool).into(),
                device: (*device).into(),
                request: (*request).into(),
                ..DeviceRequestAllocationResult::default()
            })
            .collect();
        let mut claim = ResourceClaim::default();
        claim.metadata.name = Some(name.into());
        claim.metadata.namespace = Some("default".into());
        claim.metadata.uid = Some(uid.into());
        claim.status = Some(ResourceClaimStatus {
            allocation: Some(AllocationResult {
                devices: Some(DeviceAllocationResult {
                    results: Some(results),
                    ..DeviceAllocationResult::default()
                }),
                ..AllocationResult::default()
            }),
            ..ResourceClaimStatus::default()
        });
        claim
    }

    #[test]
    fn only_this_drivers_devices_of_this_node_count() {
        let claims = [
            claim(
                "a",
                "1",
                &[
                    (DRIVER, "rig-1", "gpu-a", "one"),
                    (DRIVER, "rig-1", "gpu-b", "two/big"),
                ],
            ),
            claim(
                "b",
                "2",
                &[
                    (DRIVER, "rig-2", "gpu-a", "one"),
                    ("other.dev", "rig-1", "gpu-a", "one"),
                ],
            ),
            ResourceClaim::default(),
        ];
        let held = held(&claims, "rig-1");
        assert_eq!(
            held,
            BTreeMap::from([("gpu-a".to_owned(), 1), ("gpu-b".to_owned(), 1)])
        );
        assert_eq!(allocated(&claims[0], "rig-1")[1].request, "two");
    }
}
