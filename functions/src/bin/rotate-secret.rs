//! The `rotate-secret` function: rotates tenants' secrets.

use doorward::function::{Error, secret_rotation};

#[tokio::main]
async fn main() -> Result<(), Error> {
    secret_rotation::serve().await
}
