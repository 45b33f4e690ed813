use proptest::{
    prelude::*,
    strategy::ValueTree,
    string::string_regex,
    test_runner::{Config, TestRunner},
};

use super::*;

const NAMES: &str = "made of the username or the names";
const REPEATED: &str = "shorter text repeated";
const WALK: &str = "sequence or a keyboard run";
const COMMON: &str = "most common";

fn broken(password: &str, min_length: usize) -> Vec<&'static str> {
    let names = ForbiddenNames {
        username: &Username::parse("Marcus.Jensen@example.com").unwrap(),
        tenant: &TenantId::parse("tenant_nordic-1").unwrap(),
        tenant_name: "Nordic Bank",
    };
    broken_rules(password, min_length, &names).collect()
}

fn assert_breaks(rule: &str, passwords: &[&str]) {
    for password in passwords {
        let broken = broken(password, 15);
        assert!(broken.iter().any(|text| text.contains(rule)), "{password}: {broken:?}");
    }
}

// docs/design/security.md#rule-3
#[test]
fn common_passwords_are_rejected_in_any_case_and_with_trivial_additions() {
    assert_breaks(
        COMMON,
        &[
            "password",
            "PassWord",
            "iloveyou",
            "trustno1",
            "qwertyuiop",
            "Password2024!",
            "2024password",
            "dragon1234567890",
            "!!letmein!!",
            "sunshine1234567890!!",
            "passwordpassword",
            "привет123",
        ],
    );
    assert!(broken("passwordpassword", 8).contains(&"must not be one of the most common passwords"));
}

// docs/design/security.md#rule-3
#[test]
fn names_are_rejected_alone_repeated_and_with_trivial_additions() {
    assert_breaks(
        NAMES,
        &[
            "marcus.jensen@example.com",
            "MARCUS.JENSEN@EXAMPLE.COM",
            "marcusjensen",
            "Marcus Jensen 2024",
            "marcus.jensenmarcus.jensen",
            "nordicbank",
            "Nordic-Bank-2024!",
            "tenant_nordic-1",
            "tenantnordic1!",
            "Doorward",
            "doorwardDoorward1",
            "12345678doorward",
            "doorward marcus.jensen",
            "NordicBankDoorward99",
        ],
    );
    for password in ["marcus.jensen likes tea", "my doorward passphrase", "doorward83719264"] {
        assert_eq!(broken(password, 8), [""; 0], "{password}");
    }
}

#[test]
fn username_without_letters_is_rejected_as_password() {
    for text in ["+45 12 9", "!%", "90 21 87"] {
        let username = Username::parse(text).unwrap();
        let tenant = TenantId::parse("t").unwrap();
        let names = ForbiddenNames { username: &username, tenant: &tenant, tenant_name: "" };
        let broken: Vec<_> = broken_rules(text, 8, &names).collect();
        assert!(broken.iter().any(|rule| rule.contains(NAMES)), "{text}: {broken:?}");
    }
}

// docs/design/security.md#rule-3
#[test]
fn repeated_text_is_rejected_unless_one_repetition_is_long_enough() {
    assert_breaks(
        REPEATED,
        &[
            "aaaaaaaaaaaaaaaa",
            "abcabcabcabcabcab",
            "kX9!kX9!kX9!kX9!",
            "cobalt lamp cobalt lamp",
            "Kx9!rT2vkx9!Rt2v",
            "            ",
        ],
    );
    assert_eq!(broken("tundra kiosk 9 tundra kiosk 9 ", 15), [""; 0]);
    assert_eq!(broken("tundra kiosk tundra kiosk ", 15), ["must not be a shorter text repeated"]);
    assert_eq!(broken("blurtz", 15), [""; 0], "the blocklist does not check the length");
}

// docs/design/security.md#rule-3
#[test]
fn sequences_and_keyboard_runs_are_rejected() {
    assert_breaks(
        WALK,
        &[
            "123456789012345",
            "987654321098765",
            "abcdefghijklmnop",
            "ZYXWVUTSRQPONML",
            "qwertyuiopasdfghjkl",
            "poiuytrewqlkjhgfdsa",
            "qwertzuiopasdfgh",
            "azertyuiopqsdfghjklm",
            "1qaz2wsx3edc4rfv",
            "zaq1xsw2cde3vfr4",
            "q1w2e3r4t5y6u7i8",
            "aaaabbbbccccdddd",
            "112233445566778899",
            "abc123qwe789asdf",
            "!@#$%^&*()_+",
            "йцукенгшщзфывапролд",
            "147258369147258",
        ],
    );
    for password in
        ["qwerty is no password", "1234 tulips bloomed", "a1b2c3 go to market", "хорошая погода завтра"]
    {
        assert_eq!(broken(password, 15), [""; 0], "{password}");
    }
}

// docs/design/security.md#rule-3: long texts that are not on the list are allowed.
#[test]
fn passphrases_are_allowed() {
    let samples = 1_000;
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRunner::deterministic().new_rng());
    for pattern in [
        "[a-z]{3,9}( [a-z]{3,9}){2,5}",
        "[A-Z][a-z]{2,8}-[a-z]{3,9}-[a-z]{3,9}[0-9]{1,4}!?",
        "\\PC{15,64}",
        "[!-~]{15,20}",
    ] {
        let strategy = string_regex(pattern).unwrap();
        let refused: Vec<_> = (0..samples)
            .map(|_| strategy.new_tree(&mut runner).unwrap().current())
            .filter(|password| !broken(password, 15).is_empty())
            .collect();
        // The sample is the same in each run. One lookup in 92,000 is a false positive.
        assert!(refused.len() <= 1, "{refused:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_rules_panic(text in "\\PC{0,256}", min_length in 8_usize..=64) {
        broken_rules(&text, min_length, &ForbiddenNames {
            username: &Username::parse("n").unwrap(),
            tenant: &TenantId::parse("t").unwrap(),
            tenant_name: "",
        }).count();
    }

    #[test]
    fn doubled_text_is_rejected(text in "[a-zA-Z0-9 ]{4,14}") {
        prop_assert!(broken(&text.repeat(2), 15).contains(&"must not be a shorter text repeated"));
    }
}

fn policy_errors(password: &str, username: &str) -> usize {
    let names = ForbiddenNames {
        username: &Username::parse(username).unwrap(),
        tenant: &TenantId::parse("tenant_cloudvault").unwrap(),
        tenant_name: "CloudVault",
    };
    PasswordPolicy::default().broken_rules(&Password::parse(password).unwrap(), "password", &names).len()
}

// docs/design/security.md#rule-1: the length counts code points, not bytes.
#[test]
fn minimum_length_counts_code_points() {
    assert_eq!(policy_errors("Zwölf Boxkämpf!", "n"), 0);
    assert_eq!(policy_errors("Zwölf Boxkämpf", "n"), 1);
    assert_eq!(PasswordPolicy::new(1).min_length(), PasswordPolicy::FLOOR);
}

#[test]
fn username_is_rejected_as_password() {
    assert_eq!(policy_errors("Marcus.Jensen@Example.com", "marcus.jensen@example.com"), 1);
}
