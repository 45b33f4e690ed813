//! The `discovery` function serves the routes in [`route::DISCOVERY`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::Discovery, &route::DISCOVERY).await
}
