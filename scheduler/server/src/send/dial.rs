//! Sockets towards engines and nodes: made quickly or not at all, and given up when nobody acknowledges what was sent.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

/// A connection is there within this, or cannot be made.
pub(crate) const DIAL: Duration = Duration::from_millis(750);
/// Bytes that nobody acknowledges for so long were sent to a machine that is not there any more. A busy engine's kernel
/// acknowledges all the same, so this tells a dead node from a slow process.
pub(crate) const UNACKNOWLEDGED: Duration = Duration::from_millis(1200);
/// A silent connection is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// What makes connections with these bounds.
pub(crate) fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(DIAL));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEP_ALIVE));
    connector.set_keepalive_interval(Some(KEEP_ALIVE));
    connector.set_keepalive_retries(Some(1));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}
