//! Picks as tables.

use super::{Because, Candidate, Pick, Request, Strategy, pick};

fn replica(id: &str) -> Candidate {
    Candidate {
        id: id.to_owned(),
        waiting: 0,
        running: 0,
        max_batch_size: 1,
        run_microseconds: 1_000,
        gflops: 5_000,
        on_cpu: false,
        upload_bytes_per_second: 1_000_000_000,
        report_age_microseconds: 20_000,
        tier: 0,
    }
}

fn at(candidates: &[Candidate], strategy: Strategy) -> usize {
    pick(candidates, &Request::default(), strategy, 0).unwrap().index
}

#[test]
fn without_candidates_there_is_no_pick() {
    assert_eq!(pick(&[], &Request::default(), Strategy::Adaptive, 1), None);
    let session = Request {
        session: Some("s".to_owned()),
        ..Request::default()
    };
    assert_eq!(pick(&[], &session, Strategy::Adaptive, 1), None);
}

#[test]
fn who_refused_a_request_is_not_asked_again() {
    let candidates = [replica("a"), replica("b")];
    let request = Request {
        excluded: vec!["a".to_owned()],
        ..Request::default()
    };
    let answer = pick(&candidates, &request, Strategy::LeastLoaded, 0);
    assert_eq!(
        answer,
        Some(Pick {
            index: 1,
            because: Because::Only
        })
    );
    let request = Request {
        excluded: vec!["a".to_owned(), "b".to_owned()],
        ..Request::default()
    };
    assert_eq!(pick(&candidates, &request, Strategy::LeastLoaded, 0), None);
}

#[test]
fn equals_are_drawn_from_by_the_random_number() {
    let candidates = [replica("b"), replica("a"), replica("c")];
    for strategy in Strategy::ALL {
        let drawn: Vec<usize> = (0..6)
            .map(|random| {
                pick(&candidates, &Request::default(), strategy, random)
                    .unwrap()
                    .index
            })
            .collect();
        assert_eq!(drawn, [1, 0, 2, 1, 0, 2], "{strategy:?}: in the order of names");
    }
}

#[test]
fn least_loaded_counts_what_waits_and_what_runs() {
    let candidates = [
        Candidate {
            waiting: 2,
            ..replica("a")
        },
        Candidate {
            waiting: 1,
            ..replica("b")
        },
        Candidate {
            running: 3,
            ..replica("c")
        },
    ];
    assert_eq!(at(&candidates, Strategy::LeastLoaded), 1);
}

#[test]
fn the_fastest_device_is_matched_even_if_it_is_busy() {
    let candidates = [
        Candidate {
            run_microseconds: 4_000,
            ..replica("a")
        },
        Candidate {
            running: 1,
            waiting: 5,
            ..replica("b")
        },
    ];
    assert_eq!(at(&candidates, Strategy::GpuMatch), 1);
}

#[test]
fn among_devices_about_as_fast_the_least_loaded_is_matched() {
    let candidates = [
        Candidate {
            running: 1,
            ..replica("a")
        },
        Candidate {
            run_microseconds: 1_200,
            ..replica("b")
        },
    ];
    assert_eq!(at(&candidates, Strategy::GpuMatch), 1);
}

#[test]
fn a_card_is_matched_before_a_processor_whatever_they_report() {
    let candidates = [
        Candidate {
            on_cpu: true,
            run_microseconds: 500,
            ..replica("a")
        },
        replica("b"),
    ];
    assert_eq!(at(&candidates, Strategy::GpuMatch), 1);
}

#[test]
fn what_waits_is_weighed_by_how_many_share_a_run() {
    let candidates = [
        Candidate {
            waiting: 7,
            max_batch_size: 8,
            ..replica("a")
        },
        Candidate {
            waiting: 1,
            ..replica("b")
        },
    ];
    assert_eq!(
        at(&candidates, Strategy::Adaptive),
        0,
        "seven share one run, one has a run of its own"
    );
}

#[test]
fn many_bytes_go_to_the_wider_link() {
    let candidates = [
        Candidate {
            upload_bytes_per_second: 200_000_000,
            ..replica("a")
        },
        Candidate {
            run_microseconds: 1_500,
            upload_bytes_per_second: 6_000_000_000,
            ..replica("b")
        },
    ];
    assert_eq!(
        at(&candidates, Strategy::Adaptive),
        0,
        "a few bytes go to the faster card"
    );
    let request = Request {
        bytes: 2_000_000,
        ..Request::default()
    };
    assert_eq!(
        pick(&candidates, &request, Strategy::Adaptive, 0).unwrap().index,
        1
    );
}

#[test]
fn the_expected_answer_is_said() {
    let candidates = [
        Candidate {
            running: 1,
            waiting: 2,
            ..replica("a")
        },
        Candidate {
            running: 9,
            waiting: 9,
            ..replica("b")
        },
    ];
    let answer = pick(&candidates, &Request::default(), Strategy::Adaptive, 0).unwrap();
    // Half a run is left of the one under way, two wait, one is ours.
    assert_eq!(
        answer.because,
        Because::Adaptive {
            answer_microseconds: 3_500
        }
    );
    assert_eq!(
        answer.because.to_string(),
        "earliest answer: expected after 3500 us"
    );
}

#[test]
fn a_silent_replica_attracts_nothing() {
    let silent = Candidate {
        report_age_microseconds: 3_000_000,
        ..replica("a")
    };
    let busy = Candidate {
        waiting: 1,
        running: 1,
        ..replica("b")
    };
    for strategy in Strategy::ALL {
        assert_eq!(at(&[silent.clone(), busy.clone()], strategy), 1, "{strategy:?}");
    }
}

#[test]
fn a_replica_that_never_ran_is_taken_for_an_average_one() {
    let unknown = Candidate {
        run_microseconds: 0,
        gflops: 0,
        ..replica("a")
    };
    let idle = replica("b");
    assert_eq!(
        at(
            &[
                Candidate {
                    waiting: 1,
                    ..unknown.clone()
                },
                idle.clone()
            ],
            Strategy::Adaptive
        ),
        1
    );
    assert_eq!(
        at(&[unknown, Candidate { waiting: 1, ..idle }], Strategy::Adaptive),
        0
    );
}

#[test]
fn an_unknown_run_is_guessed_from_what_the_device_can_do() {
    let slow = Candidate {
        run_microseconds: 0,
        gflops: 50,
        on_cpu: true,
        ..replica("a")
    };
    assert_eq!(
        at(
            &[
                slow,
                Candidate {
                    waiting: 9,
                    ..replica("b")
                }
            ],
            Strategy::Adaptive
        ),
        1
    );
}

#[test]
fn one_that_fails_fast_is_not_believed_to_be_a_thousand_times_faster() {
    let failing = Candidate {
        run_microseconds: 1,
        waiting: 8,
        ..replica("a")
    };
    let candidates = [failing, replica("b"), replica("c")];
    assert_ne!(at(&candidates, Strategy::Adaptive), 0);
}

#[test]
fn a_session_stays_until_its_replica_has_more_than_its_share() {
    let mut candidates = [replica("a"), replica("b"), replica("c")];
    let request = Request {
        session: Some("alice".to_owned()),
        ..Request::default()
    };
    let home = pick(&candidates, &request, Strategy::Adaptive, 0).unwrap();
    assert_eq!(home.because, Because::Session);
    candidates[home.index].waiting = 1;
    assert_eq!(
        pick(&candidates, &request, Strategy::Adaptive, 5),
        Some(home),
        "one above the mean is allowed"
    );
    candidates[home.index].waiting = 9;
    let other = pick(&candidates, &request, Strategy::Adaptive, 0).unwrap();
    assert_eq!(other.because, Because::SessionOverflow);
    assert_ne!(other.index, home.index);
    for candidate in &mut candidates {
        candidate.waiting = 9;
    }
    assert_eq!(
        pick(&candidates, &request, Strategy::Adaptive, 0),
        Some(home),
        "all are as busy"
    );
}

#[test]
fn a_session_leaves_a_replica_in_doubt_at_once_and_the_only_one_is_asked_all_the_same() {
    let mut candidates = [replica("a"), replica("b")];
    let request = Request {
        session: Some("alice".to_owned()),
        home: Some("a".to_owned()),
        ..Request::default()
    };
    assert_eq!(
        pick(&candidates, &request, Strategy::Adaptive, 0).unwrap().index,
        0
    );
    candidates[0].tier = 1;
    assert_eq!(
        pick(&candidates, &request, Strategy::Adaptive, 0).unwrap().index,
        1
    );
    candidates[1].tier = 3;
    assert_eq!(
        pick(&candidates, &request, Strategy::Adaptive, 0).unwrap().index,
        0
    );
    let alone = pick(&candidates[1..], &request, Strategy::Adaptive, 0).unwrap();
    assert_eq!(alone.because, Because::Only);
}
