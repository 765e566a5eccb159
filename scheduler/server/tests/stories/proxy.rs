//! A wire between the scheduler and an engine that can be frozen, cut or led nowhere.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::upstream::listen;

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// They pass.
    Pass,
    /// They wait, and pass when it passes again: a process that is stopped and continued.
    Freeze,
    /// They vanish; connections are taken, and nothing ever comes back: a machine without power behind something that still
    /// acknowledges.
    Blackhole,
    /// There are none: open connections end, new ones end at once: a process that was killed.
    Cut,
}

/// Everything that goes to one engine, by both doors.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    wire: Arc<watch::Sender<State>>,
}

/// What happens to bytes now, and how often the wire was cut: a cut counts even if it is mended at once.
type State = (Wire, usize);

impl Proxy {
    pub(crate) async fn before(grpc: SocketAddr, http: SocketAddr) -> Self {
        let wire = Arc::new(watch::Sender::new((Wire::Pass, 0)));
        let (grpc_door, http_door) = (listen().await, listen().await);
        let proxy = Self {
            grpc: grpc_door.local_addr().unwrap(),
            http: http_door.local_addr().unwrap(),
            wire,
        };
        tokio::spawn(accept(grpc_door, grpc, proxy.wire.subscribe()));
        tokio::spawn(accept(http_door, http, proxy.wire.subscribe()));
        proxy
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire
            .send_modify(|state| *state = (wire, state.1 + usize::from(wire == Wire::Cut)));
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, wire: watch::Receiver<State>) {
    while let Ok((near, _)) = listener.accept().await {
        let mut wire = wire.clone();
        tokio::spawn(async move {
            let (now, cuts) = *wire.borrow_and_update();
            if now == Wire::Cut {
                return;
            }
            let Ok(far) = TcpStream::connect(to).await else {
                return;
            };
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            let mut until = wire.clone();
            tokio::select! {
                () = pump(near_in, far_out, wire.clone()) => {}
                () = pump(far_in, near_out, wire) => {}
                _ = until.wait_for(|(_, now)| *now != cuts) => {}
            }
        });
    }
}

/// Until either end is gone.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<State>) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else {
            return;
        };
        let Ok(now) = wire
            .wait_for(|(now, _)| *now != Wire::Freeze)
            .await
            .map(|state| state.0)
        else {
            return;
        };
        if now == Wire::Pass && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
