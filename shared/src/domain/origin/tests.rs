use proptest::prelude::*;

use super::*;

#[test]
fn only_the_spelling_of_browsers_is_accepted() {
    for good in [
        "https://app.example.com",
        "https://app.example.com:8443",
        "https://xn--bcher-kva.example",
        "https://192.0.2.1",
        "https://[2001:db8::1]:444",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:5173",
    ] {
        assert_eq!(WebOrigin::parse(good).map(String::from), Ok(good.to_owned()));
    }
    for bad in [
        "",
        "*",
        "null",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?x",
        "https://app.example.com#x",
        "https://app.example.com:443",
        "https://App.example.com",
        "HTTPS://app.example.com",
        " https://app.example.com",
        "https://bücher.example",
        "https://user@app.example.com",
        "https://",
        "http://app.example.com",
        "http://localhost.example.com",
        "http://127.0.0.2",
        "http://[::1]",
        "app.example.com",
        "file:///etc",
        "chrome-extension://abcdef",
        "javascript:alert(1)",
    ] {
        assert!(WebOrigin::parse(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn accepted_origin_is_unchanged(text in "https?://[a-zA-Z0-9.:/@%_-]{1,40}|\\PC{0,60}") {
        if let Ok(origin) = WebOrigin::parse(&text) {
            prop_assert_eq!(origin.as_str(), &text);
            prop_assert!(!text.bytes().any(|byte| byte.is_ascii_control() || byte == b' '));
        }
    }
}
