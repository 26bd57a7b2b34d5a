//! `calico-felix replay` as a person or a script calls it: what it prints and its exit code.

use std::process::Command;

/// The exit code and what was printed on both.
fn replay(text: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, text).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_calico-felix")).arg("replay").arg(&file).output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn states_that_are_all_unreadable_fail_and_are_named() {
    let (code, said) = replay(
        r#"{"local_host":"n1","states":{"odd":{"datastore":[{"key":"/nobody/knows","value":{}}]}},"sequences":[]}"#,
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(r#"skipped "odd": "#) && said.contains("/nobody/knows"), "{said}");
    assert!(said.contains("0 compared, 1 skipped"), "{said}");
}

#[test]
fn a_recording_that_can_be_compared_succeeds_and_one_that_cannot_fails() {
    let recording = "{\"hostname\":\"n1\"}\n{\"status\":\"in-sync\"}\n{\"flush\":true}\n";
    let (code, said) = replay(recording);
    assert_eq!((code, said.as_str()), (Some(0), "1 compared, 0 skipped, 0 differences\n"));
    let expecting = format!("{recording}{{\"expected\":{{\"profiles\":[{{\"Name\":\"kns.a\"}}]}}}}\n");
    let (code, said) = replay(&expecting);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("- profile kns.a"), "{said}");
    for unreadable in ["", "{\"hostname\":\"n1\"}\n", "{\"status\":\"in-sync\"}\n{\"flu"] {
        let (code, said) = replay(unreadable);
        assert_eq!(code, Some(1), "{said}");
    }
}
