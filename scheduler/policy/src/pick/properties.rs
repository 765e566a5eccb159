//! What holds for any candidates.

use proptest::prelude::*;

use super::{Because, Candidate, Request, Strategy as How, pick};

fn candidate() -> impl Strategy<Value = Candidate> {
    (
        (0..40_u32, 0..10_u32, 0..17_u32),
        (0..50_000_u64, 0..9_000_u64, any::<bool>()),
        (0..10_000_000_000_u64, 0..5_000_000_u64),
    )
        .prop_map(
            |((waiting, running, max_batch_size), (run, gflops, on_cpu), (upload, age))| Candidate {
                id: String::new(),
                waiting,
                running,
                max_batch_size,
                run_microseconds: run,
                gflops,
                on_cpu,
                upload_bytes_per_second: upload,
                report_age_microseconds: age,
                tier: 0,
            },
        )
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec(candidate(), 1..8).prop_map(|mut candidates| {
        for (index, candidate) in candidates.iter_mut().enumerate() {
            candidate.id = format!("team/model-1-{index}");
        }
        candidates
    })
}

fn how() -> impl Strategy<Value = How> {
    proptest::sample::select(&How::ALL)
}

fn session(key: u32) -> Request {
    Request {
        session: Some(format!("key-{key}")),
        ..Request::default()
    }
}

/// At most 1.25 times the mean, plus one.
fn within(candidates: &[Candidate], index: usize) -> bool {
    let loads: Vec<u64> = candidates
        .iter()
        .map(|candidate| u64::from(candidate.waiting + candidate.running))
        .collect();
    let count = loads.len() as u64;
    loads[index] * 4 * count <= 5 * loads.iter().sum::<u64>() + 4 * count
}

proptest! {
    #[test]
    fn somebody_answers_and_the_same_question_gives_the_same_answer(
        candidates in candidates(), how in how(), bytes in any::<u64>(), random in any::<u64>(),
    ) {
        let request = Request { bytes, ..Request::default() };
        let answer = pick(&candidates, &request, how, random);
        prop_assert!(answer.is_some_and(|answer| answer.index < candidates.len()));
        prop_assert_eq!(answer, pick(&candidates, &request, how, random));
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        candidates in candidates(), how in how(), random in any::<u64>(), key in prop::option::of(any::<u32>()),
    ) {
        let request = key.map_or_else(Request::default, session);
        let mut reversed = candidates.clone();
        reversed.reverse();
        let straight = pick(&candidates, &request, how, random).unwrap();
        let turned = pick(&reversed, &request, how, random).unwrap();
        prop_assert_eq!(&candidates[straight.index].id, &reversed[turned.index].id);
    }

    #[test]
    fn nobody_of_a_higher_tier_is_asked_while_one_of_a_lower_is_left(
        candidates in candidates(), how in how(), random in any::<u64>(), key in prop::option::of(any::<u32>()),
        tiers in prop::collection::vec(0..4_u8, 8), home in any::<prop::sample::Index>(),
    ) {
        let mut candidates = candidates;
        for (candidate, tier) in candidates.iter_mut().zip(tiers) {
            candidate.tier = tier;
        }
        let mut request = key.map_or_else(Request::default, session);
        request.home = Some(candidates[home.index(candidates.len())].id.clone());
        let mut asked = Vec::new();
        while let Some(answer) = pick(&candidates, &request, how, random) {
            asked.push(candidates[answer.index].tier);
            request.excluded.push(candidates[answer.index].id.clone());
        }
        prop_assert_eq!(asked.len(), candidates.len());
        prop_assert!(asked.is_sorted(), "{asked:?}");
    }

    #[test]
    fn least_loaded_never_picks_one_that_reports_and_has_more(candidates in candidates(), random in any::<u64>()) {
        let mut candidates = candidates;
        for candidate in &mut candidates {
            candidate.report_age_microseconds = 0;
        }
        let answer = pick(&candidates, &Request::default(), How::LeastLoaded, random).unwrap();
        let load = |candidate: &Candidate| candidate.waiting + candidate.running;
        prop_assert_eq!(
            load(&candidates[answer.index]),
            candidates.iter().map(load).min().unwrap()
        );
    }

    #[test]
    fn more_work_never_makes_a_replica_more_attractive(
        candidates in candidates(), how in how(), random in any::<u64>(), more in 1..50_u32,
    ) {
        let before = pick(&candidates, &Request::default(), how, random).unwrap();
        for other in (0..candidates.len()).filter(|other| *other != before.index) {
            let mut busier = candidates.clone();
            busier[other].waiting += more;
            let after = pick(&busier, &Request::default(), how, random).unwrap();
            // It may have been an equal that was not drawn, then others are drawn from; it is never drawn itself.
            prop_assert!(after.index != other || busier.len() == 1);
        }
    }

    #[test]
    fn a_session_moves_only_when_its_replica_is_gone_or_over_the_bound(
        candidates in candidates(), key in any::<u32>(), loads in prop::collection::vec(0..40_u32, 8), gone in 0..8_usize,
    ) {
        if candidates.len() < 3 {
            return Ok(());
        }
        let mut idle = candidates;
        for candidate in &mut idle {
            candidate.waiting = 0;
            candidate.running = 0;
        }
        let home = pick(&idle, &session(key), How::Adaptive, 0).unwrap();

        let mut busy = idle.clone();
        for (candidate, load) in busy.iter_mut().zip(loads) {
            candidate.waiting = load;
        }
        let now = pick(&busy, &session(key), How::Adaptive, 0).unwrap();
        prop_assert!(within(&busy, now.index), "it went to one over the bound");
        prop_assert_eq!(now.index == home.index, within(&busy, home.index));
        prop_assert_eq!(now.because == Because::Session, now.index == home.index);

        let gone = gone % idle.len();
        let lost = idle.remove(gone);
        let after = pick(&idle, &session(key), How::Adaptive, 0).unwrap();
        if gone != home.index {
            prop_assert_ne!(&idle[after.index].id, &lost.id);
            prop_assert_eq!(after.index, home.index - usize::from(gone < home.index));
        }
    }

    #[test]
    fn a_new_replica_takes_sessions_only_for_itself(candidates in candidates(), key in any::<u32>()) {
        if candidates.len() < 2 {
            return Ok(());
        }
        let mut idle = candidates;
        for candidate in &mut idle {
            candidate.waiting = 0;
            candidate.running = 0;
        }
        let before = pick(&idle, &session(key), How::Adaptive, 0).unwrap();
        idle.push(Candidate { id: "team/model-1-new".to_owned(), ..idle[0].clone() });
        let after = pick(&idle, &session(key), How::Adaptive, 0).unwrap();
        prop_assert!(after.index == before.index || after.index == idle.len() - 1);
    }

    #[test]
    fn a_session_with_a_home_stays_there_when_a_replica_comes(
        candidates in candidates(), key in any::<u32>(), home in any::<prop::sample::Index>(),
    ) {
        if candidates.len() < 2 {
            return Ok(());
        }
        let mut idle = candidates;
        for candidate in &mut idle {
            candidate.waiting = 0;
            candidate.running = 0;
        }
        let home = home.index(idle.len());
        let request = Request { home: Some(idle[home].id.clone()), ..session(key) };
        idle.push(Candidate { id: "team/model-1-new".to_owned(), ..idle[0].clone() });
        let stays = pick(&idle, &request, How::Adaptive, 0).unwrap();
        prop_assert_eq!((stays.index, stays.because), (home, Because::Session));

        // Over the bound it has to move, and without its home it goes where its key says.
        idle[home].waiting = 100;
        let moved = pick(&idle, &request, How::Adaptive, 0).unwrap();
        prop_assert_ne!(moved.index, home);
        prop_assert_eq!(moved.because, Because::SessionOverflow);
    }
}
