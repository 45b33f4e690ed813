//! The `deliver-notification` function: delivers the messages that the table's stream announces.

use doorward::function::{Error, stream};

#[tokio::main]
async fn main() -> Result<(), Error> {
    stream::serve().await
}
