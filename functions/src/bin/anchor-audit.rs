//! The `anchor-audit` function: stores the chain heads of the audit log.

use doorward::function::{Error, audit_log};

#[tokio::main]
async fn main() -> Result<(), Error> {
    audit_log::serve().await
}
