//! Engines that do not end, and those that wait for them.

use super::*;

fn engines(stop: &CancellationToken) -> Engines {
    let options = Options::new("/nowhere/engine".into(), "/nowhere".into(), [127, 0, 0, 1].into());
    Engines::new(options, watch::channel(Vec::new()).1, stop.clone())
}

fn supervisor(engines: &Engines, renew: &watch::Sender<u64>) -> (Supervisor, watch::Receiver<Standing>) {
    let (sender, standing) = watch::channel(Standing::Coming(None));
    let supervisor = Supervisor {
        engines: engines.clone(),
        device: "gpu-0".to_owned(),
        standing: sender,
        renew: renew.subscribe(),
        stop: engines.0.stop.clone(),
    };
    (supervisor, standing)
}

#[tokio::test]
async fn an_engine_that_cannot_be_ended_serves_nothing_any_more_and_does_not_keep_the_agent() {
    let stop = CancellationToken::new();
    let (engines, renew) = (engines(&stop), watch::Sender::new(0));
    engines.loads().report("gpu-0", Report::default());
    assert!(!engines.loads().subscribe().borrow().is_empty());
    let (supervisor, mut standing) = supervisor(&engines, &renew);
    let (process, _kernel) = Process::held_by_the_kernel();
    let ending = tokio::spawn(async move { supervisor.end(&process, "it was silent").await });
    let said = standing
        .wait_for(|now| matches!(now, Standing::Coming(Some(why)) if why.contains("restart the node")))
        .await
        .unwrap()
        .clone();
    assert!(
        matches!(said, Standing::Coming(Some(why)) if why.contains("it was silent")),
        "both what happened and what to do"
    );
    assert!(engines.loads().subscribe().borrow().is_empty());
    assert!(!ending.is_finished(), "another engine would want the same memory");
    stop.cancel();
    ending.await.unwrap();
}

#[tokio::test]
async fn the_next_engine_of_a_device_waits_until_the_former_has_really_ended() {
    let stop = CancellationToken::new();
    let (engines, renew) = (engines(&stop), watch::Sender::new(0));
    let (first, _) = supervisor(&engines, &renew);
    let seat = first.seat().await.unwrap();
    // What its process holds, long after its supervisor has given up.
    let process = Arc::clone(&seat);
    drop(seat);
    let (second, _) = supervisor(&engines, &renew);
    let waiting = tokio::spawn(async move { second.seat().await.is_some() });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished() && engines.occupants().on("gpu-0"));
    drop(process);
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn an_engine_is_renewed_once_for_what_it_did_not_free() {
    let stop = CancellationToken::new();
    let (engines, renew) = (engines(&stop), watch::Sender::new(0));
    let (supervisor, _standing) = supervisor(&engines, &renew);
    renew.send_replace(2);
    supervisor.renewed(1).await;
    supervisor.renewed(2).await;
    let next = tokio::time::timeout(Duration::ZERO, supervisor.renewed(3));
    assert!(next.await.is_err(), "the next process has done nothing wrong");
}

#[tokio::test]
async fn an_engine_that_nobody_uses_stays_a_while_and_leaves_a_device_that_is_wanted_back_at_once() {
    let stop = CancellationToken::new();
    let device = Device {
        name: "gpu-0".into(),
        offered: true,
        ..Device::default()
    };
    let options = Options::new("/nowhere/engine".into(), "/nowhere".into(), [127, 0, 0, 1].into());
    let engines = Engines::new(options, watch::channel(vec![device]).1, stop);
    let runs = || engines.running().contains_key("gpu-0");
    drop(engines.of("gpu-0"));
    assert!(runs(), "the next replica finds it warm");
    let (first, second) = (engines.of("gpu-0"), engines.of("gpu-0"));
    let stopped = first.engine.stop.clone();
    engines.occupants().want_back(["gpu-0".to_owned()].into());
    engines.tidy();
    drop(first);
    assert!(runs() && !stopped.is_cancelled(), "it serves still");
    drop(second);
    assert!(!runs() && stopped.is_cancelled());

    engines.occupants().want_back([].into());
    drop(engines.of("gpu-0"));
    engines.occupants().want_back(["gpu-0".to_owned()].into());
    engines.tidy();
    assert!(!runs(), "idle when it was asked for");
}

impl Engines {
    /// An engine of `device` that is said to be up; what says so, and what hears that it is to be renewed.
    pub(in crate::host) fn pretend(
        &self,
        device: &str,
        up: &Arc<Up>,
    ) -> (Using, watch::Sender<Standing>, watch::Receiver<u64>) {
        let (sender, standing) = watch::channel(Standing::Up(Arc::clone(up)));
        let renew = watch::Sender::new(0);
        let asked = renew.subscribe();
        let engine = Arc::new(Engine {
            standing,
            probing: tokio::sync::Mutex::default(),
            renew,
            stop: self.0.stop.child_token(),
        });
        let using = Using {
            engines: self.clone(),
            device: device.to_owned(),
            engine,
        };
        (using, sender, asked)
    }
}
