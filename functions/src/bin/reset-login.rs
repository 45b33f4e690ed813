//! The `reset-login` function serves the routes in [`route::RESET_LOGIN`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::ResetLogin, &route::RESET_LOGIN).await
}
