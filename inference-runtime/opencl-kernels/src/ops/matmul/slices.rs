//! Cutting a product's k into slices, where its tiles alone would leave most of a GPU idle.
//!
//! A small picture deep in a network, or one request alone, gives a product of a few tiles and a long k. Slices sum
//! parts of k side by side into temporary memory; `join_slices` adds them up in a fixed order, so that answers stay the
//! same from run to run.

use super::product::{KERNEL_BATCH_AXES, Launching, Product};
use crate::ops::operator::Reason;
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::runtime::DeviceTraits;

const SOURCE: Source = Source {
    name: "join_slices.cl",
    text: concat!(
        "#define REAL float4\n#define LANES 4\n#define LOAD vload4\n#define STORE vstore4\n",
        include_str!("epilogue.cl"),
        include_str!("product.cl"),
        include_str!("join.cl"),
    ),
};

/// How k is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Slices {
    /// How many; 1 is a product in one go.
    pub count: usize,
    /// Steps of the kernel per slice.
    pub steps: usize,
}

impl Slices {
    /// A product in one go.
    pub(in crate::ops) const NONE: Self = Self { count: 1, steps: 0 };

    /// Cuts `steps` of k for a product of this many tiles.
    pub(in crate::ops) fn choose(device: &DeviceTraits, tiles: usize, steps: usize) -> Self {
        /// Work-groups per compute unit that hide each other's waiting.
        const GROUPS_PER_UNIT: usize = 2;
        /// With fewer steps, writing and adding up a slice costs more than it computes.
        const FEWEST_STEPS: usize = 8;
        const MOST: usize = 16;
        let wanted = (device.compute_units * GROUPS_PER_UNIT) / tiles.max(1);
        let count = wanted.min(steps / FEWEST_STEPS).clamp(1, MOST);
        let each = steps.div_ceil(count).max(1);
        Self {
            count: steps.div_ceil(each).max(1),
            steps: each,
        }
    }

    /// Temporary memory for what the slices of this product sum; `None` for a product in one go.
    pub(in crate::ops) fn scratch(self, product: &Product, emitter: &mut Emitter<'_>) -> Option<Arg> {
        let elements = product.batch.iter().product::<usize>() * product.m * product.n;
        (self.count > 1).then(|| emitter.scratch(self.count * elements * size_of::<f32>()))
    }

    /// Records the launch that adds up what the slices have summed into `partial`, and ends the product.
    pub(in crate::ops) fn join(
        self,
        product: &Product,
        partial: Arg,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), Reason> {
        let (offsets, batch) = product.merged_batch().split(KERNEL_BATCH_AXES);
        let per_launch: usize = batch.extents.iter().product();
        let [[_, _, bias, residual]] = offsets.as_slice() else {
            return Err("a product cut into slices must be one launch".to_owned());
        };
        let launching = Launching {
            left: partial.clone(),
            right: partial,
            target: emitter.write(0),
            right_strides: (0, 0),
            flags: 0,
            batch: &batch,
            base: [0, 0, 0, *bias, *residual],
            slices: self,
        };
        let args = product.arguments(emitter, launching)?;
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "join_slices",
            options: vec![product.activation.option()],
            args,
            global: [product.n.div_ceil(4).next_multiple_of(64), product.m, per_launch],
            local: [64, 1, 1],
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::DeviceKind;

    fn rx580() -> DeviceTraits {
        DeviceTraits {
            kind: DeviceKind::Gpu,
            compute_units: 36,
            max_work_group: 1024,
            local_memory: 65536,
            max_allocation: 1 << 31,
            alignment: 512,
        }
    }

    #[test]
    fn every_step_is_in_one_slice() {
        for tiles in [1, 2, 8, 16, 36, 72, 500] {
            for steps in 0..400 {
                let slices = Slices::choose(&rx580(), tiles, steps);
                assert!(slices.count * slices.steps >= steps, "{tiles} {steps} {slices:?}");
                assert!(
                    (slices.count - 1) * slices.steps < steps.max(1),
                    "{tiles} {steps} {slices:?}"
                );
            }
        }
    }

    #[test]
    fn only_products_of_few_tiles_and_long_sums_are_cut() {
        assert_eq!(Slices::choose(&rx580(), 72, 288).count, 1, "enough tiles");
        assert_eq!(Slices::choose(&rx580(), 4, 12).count, 1, "too short");
        // ResNet-50's last 3x3 layers: 8 tiles, k = 4608.
        assert_eq!(Slices::choose(&rx580(), 8, 288), Slices { count: 9, steps: 32 });
    }
}
