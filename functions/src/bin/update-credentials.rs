//! The `update-credentials` function serves the routes in [`route::UPDATE_CREDENTIALS`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::UpdateCredentials, &route::UPDATE_CREDENTIALS).await
}
