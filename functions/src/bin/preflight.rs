//! The `preflight` function: `doorward::route::served` says which requests reach it.

use doorward::{route::Function, runtime};

#[tokio::main]
async fn main() -> Result<(), runtime::Error> {
    runtime::serve(Function::Preflight).await
}
