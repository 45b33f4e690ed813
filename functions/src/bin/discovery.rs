//! The `discovery` function: `doorward::route::ROUTES` says which requests reach it.

use doorward::{route::Function, runtime};

#[tokio::main]
async fn main() -> Result<(), runtime::Error> {
    runtime::serve(Function::Discovery).await
}
