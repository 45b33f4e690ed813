//! Comparison of the generated code with the .proto files. `DOORWARD_REGENERATE=1` rewrites the code.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use prost_reflect::prost::Message;

const FILES: [&str; 2] = ["zitadel/user/v2/user_service.proto", "google/rpc/status.proto"];
const PACKAGES: [&str; 2] = ["zitadel.user.v2.rs", "google.rpc.rs"];

#[test]
fn generated_code_matches_the_proto_files() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let generated = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(FILES, [shared.join("proto")]).unwrap();
    let descriptor_set = descriptors.encode_to_vec();
    prost_build::Config::new()
        .out_dir(generated.path())
        .skip_debug(["."]) // docs/design/security.md#rule-25: the messages contain passwords and codes
        .compile_fds(descriptors)
        .unwrap();
    let code = PACKAGES.map(|package| {
        let fresh = fs::read(generated.path().join(package)).unwrap();
        (shared.join("src/dialect/zitadel/proto").join(package), fresh)
    });
    // The descriptors for the client in tests/node, which uses no generated code.
    let descriptors = shared.join("../tests/node/descriptors.binpb");
    for (kept, fresh) in code.into_iter().chain([(descriptors, descriptor_set)]) {
        if std::env::var_os("DOORWARD_REGENERATE").is_some() {
            fs::write(&kept, &fresh).unwrap();
        }
        let is_same = fs::read(&kept).is_ok_and(|kept| kept == fresh);
        assert!(is_same, "{} differs from its .proto: see the head of user_service.proto", kept.display());
    }
}
