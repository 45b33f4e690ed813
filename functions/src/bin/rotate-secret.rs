//! The `rotate-secret` function: Secrets Manager asks it for each step of a rotation.

use doorward::{rotation, runtime};

#[tokio::main]
async fn main() -> Result<(), runtime::Error> {
    rotation::serve().await
}
