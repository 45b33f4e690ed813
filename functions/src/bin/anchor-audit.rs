//! The `anchor-audit` function: the audit log's subscription feeds it, and it keeps the chains' heads.

use doorward::{runtime, subscription};

#[tokio::main]
async fn main() -> Result<(), runtime::Error> {
    subscription::serve().await
}
