//! Logs for operators: one JSON line per event on standard output.
//!
//! Field names are fixed: `request_id`, `function`, `tenant` (its record was found), `claimed_tenant` (the
//! request names it), `user`, `session` (a keyed digest, never the id), `caller`, `caller_session` (a digest),
//! `kind` (of a message). No line holds a password, token, code, secret or body.

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan,
};

/// Starts logging to standard output. `DOORWARD_LOG` sets the level of Doorward's own lines (default `info`).
pub fn init() {
    let level = std::env::var("DOORWARD_LOG").ok().and_then(|name| name.parse().ok());
    // A subscriber that is already installed stays.
    let _ = tracing::subscriber::set_global_default(lines(std::io::stdout, level.unwrap_or(Level::INFO)));
}

/// Writes one JSON line per event to `output`: Doorward's own events from `level` on, those of the SDK and
/// the Lambda runtime from `warn` on. Their lower levels hold whole requests, so no setting enables them.
pub fn lines<W>(output: W, level: Level) -> impl Subscriber + for<'span> LookupSpan<'span>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let levels = Targets::new().with_default(Level::WARN).with_target("doorward", level);
    let format = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(output)
        .with_filter(levels);
    tracing_subscriber::registry().with(format)
}
