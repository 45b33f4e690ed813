//! The `password-page` function serves the routes in [`route::PASSWORD_PAGE`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::PasswordPage, &route::PASSWORD_PAGE).await
}
