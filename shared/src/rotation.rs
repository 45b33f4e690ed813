//! The function that Secrets Manager asks for each step of a rotation.

use crate::runtime::Error;

/// Builds the function's client and serves its steps.
///
/// # Errors
/// When the configuration is incomplete or the Runtime API is gone.
pub async fn serve() -> Result<(), Error> {
    Err("not built yet".into())
}
