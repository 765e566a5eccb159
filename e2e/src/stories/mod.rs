//! What users expect of Afterglow on a cluster, one story a file. The name of a story is the claim it proves; they run in
//! this order on one cluster, and each first makes sure of what it builds on, so that one can also run alone.

mod admission;
mod api_server;
mod guard;
mod idle;
mod install;
mod kill;
mod lending;
mod lifecycle;
mod namespaces;
mod observe;
mod polaris;
mod power_cut;
mod refusals;
mod restarts;
mod rollout;
mod scale;
mod serve;
mod soak;
mod spoiled;
mod standalone;
mod state;
mod steady;
mod wiped;

use std::pin::Pin;

use anyhow::Result;
use serde_json::Value;

use crate::world::World;

/// A story under way.
type Telling<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A claim and its proof.
pub struct Story {
    /// What it claims, as a sentence.
    pub name: String,
    /// Proves it, or says what was wrong.
    pub tell: for<'a> fn(&'a mut World) -> Telling<'a>,
}

macro_rules! stories {
    ($($room:ident :: $name:ident),* $(,)?) => {
        vec![$(Story { name: stringify!($name).replace('_', " "), tell: |world| Box::pin($room::$name(world)) }),*]
    };
}

/// Which stories run when none is named: what every change must pass, and what takes longer than a change can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// What users do.
    Everyday,
    /// What goes wrong, one fault after the other.
    Faults,
    /// Everything going wrong, for a long time.
    Soak,
}

/// The stories of a set, in their order.
pub fn of(set: Set) -> Vec<Story> {
    match set {
        Set::Everyday => everyday(),
        Set::Faults => faults(),
        Set::Soak => soak(),
    }
}

fn faults() -> Vec<Story> {
    stories![
        power_cut::traffic_leaves_a_node_whose_power_is_cut_and_its_replica_serves_elsewhere,
        kill::what_is_killed_comes_back_and_leaves_the_cluster_as_it_was,
        api_server::no_request_fails_while_the_api_server_stands_still,
        restarts::restarting_everything_one_by_one_loses_no_request,
        spoiled::a_full_disk_is_said_and_heals_by_itself,
        spoiled::a_read_only_cache_is_said_and_heals_by_itself,
        spoiled::a_spoiled_model_is_never_served_and_heals_by_itself,
        spoiled::a_spoiled_status_is_put_right_by_its_owner,
        idle::an_idle_cluster_writes_nothing_but_its_leases,
        wiped::a_node_that_comes_back_as_a_new_machine_serves_again,
    ]
}

fn soak() -> Vec<Story> {
    stories![soak::nearly_every_request_is_answered_whatever_goes_wrong]
}

/// What users do, in its order. The lifecycle comes last: after it nothing is installed.
pub fn everyday() -> Vec<Story> {
    stories![
        install::one_helm_install_makes_every_node_offer_its_devices,
        admission::every_object_is_admitted_at_its_security_level,
        admission::the_api_server_refuses_what_cannot_be_meant,
        serve::a_model_deployment_becomes_ready_and_answers_as_the_standalone_server_does,
        observe::every_panel_and_every_alert_has_data_while_requests_come,
        scale::scaling_up_and_down_loses_no_request,
        rollout::a_new_revision_replaces_the_old_one_and_loses_no_request,
        refusals::an_impossible_wish_says_what_is_wrong_and_disturbs_nobody,
        namespaces::two_namespaces_with_the_same_model_name_do_not_see_each_other,
        namespaces::a_namespace_that_the_cluster_does_not_serve_is_told_so,
        standalone::the_same_folder_gives_the_same_answers_without_a_cluster,
        polaris::a_card_that_computes_wrong_is_shown_and_never_offered,
        lending::a_device_serves_models_or_is_lent_but_never_both,
        guard::the_agent_of_one_node_writes_nothing_of_another,
        guard::an_agent_puts_right_what_was_undone_and_counts_what_it_says_again,
        lifecycle::helm_upgrade_from_the_previous_chart_with_changed_kinds_loses_no_request,
        lifecycle::deleting_the_clusters_and_uninstalling_leaves_nothing,
        // The last: it looks back on what the others made our programs do.
        guard::every_verb_that_is_granted_is_used,
    ]
}

/// Merges JSON as `kubectl patch --type=merge` does: a null removes a key.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_changes_what_it_names_removes_nulls_and_keeps_the_rest() {
        let mut object = json!({"spec": {"a": 1, "b": {"c": 2}, "d": 3}});
        merge(&mut object, &json!({"spec": {"b": {"e": 4}, "d": null}}));
        assert_eq!(object, json!({"spec": {"a": 1, "b": {"c": 2, "e": 4}}}));
    }

    #[test]
    fn every_story_is_a_sentence_of_its_own() {
        let stories: Vec<Story> = Set::value_variants().iter().flat_map(|set| of(*set)).collect();
        let names: std::collections::BTreeSet<&str> =
            stories.iter().map(|story| story.name.as_str()).collect();
        assert_eq!(names.len(), stories.len());
        assert!(names.iter().all(|name| name.split(' ').count() > 4));
    }
}
