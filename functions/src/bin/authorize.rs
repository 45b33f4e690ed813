//! The `authorize` function: API Gateway asks it before it lets a request through.

use doorward::{authorizer, runtime};

#[tokio::main]
async fn main() -> Result<(), runtime::Error> {
    authorizer::serve().await
}
