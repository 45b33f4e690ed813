//! The `oauth` function serves the routes in [`route::OAUTH`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::Oauth, &route::OAUTH).await
}
