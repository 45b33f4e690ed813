//! The function that API Gateway asks before it lets a request through to somebody's own API.

use crate::runtime::Error;

/// Builds the function's clients and serves its questions.
///
/// # Errors
/// When the configuration is incomplete or the Runtime API is gone.
pub async fn serve() -> Result<(), Error> {
    Err("not built yet".into())
}
