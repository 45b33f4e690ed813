//! The `deliver-notification` function: the table's stream tells it what waits in the outbox.

use doorward::{runtime, stream};

#[tokio::main]
async fn main() -> Result<(), runtime::Error> {
    stream::serve().await
}
