//! The `preflight` function serves the routes in [`route::PREFLIGHT`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::Preflight, &route::PREFLIGHT).await
}
