//! The `authorize` function: authorizes requests to a customer's own APIs.

use doorward::function::{Error, authorizer};

#[tokio::main]
async fn main() -> Result<(), Error> {
    authorizer::serve().await
}
