//! An object whose weights are constants: it judges, it tells that they are, and it refuses updates.

use nnbpf_compiler::compile::Plan;

use crate::setup::{Fate, Setup, refusal};
use crate::{built, common};

/// An installation whose constants find every flow to be an attack.
fn installed(name: &str) -> Setup {
    let setup = Setup::new(name);
    let plan = Plan { network: built::always(&setup.plan, 1), ..setup.plan.clone() };
    std::fs::write(setup.object(), built::constant_object(&plan)).unwrap();
    setup.load(&["--enforce"]);
    setup
}

#[test]
fn constants_judge_and_are_shown() {
    if common::skip("constants_judge_and_are_shown") {
        return;
    }
    let setup = installed("constants");
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    let event: serde_json::Value =
        serde_json::from_str(&setup.done(&["events", "--count", "1", "--json"])).unwrap();
    assert_eq!((&event["label"], &event["generation"]), (&"attack".into(), &1.into()));
    // The unit of the outputs is known.
    assert!(event["score"].is_number(), "{event}");

    let hash = nnbpf_compiler::metadata::hex(&setup.plan.model.hash);
    let text = setup.done(&["status"]);
    assert!(text.contains("parameters  constants in the code\n"), "{text}");
    assert!(text.contains(&format!("model       {hash}\n")), "{text}");
    let json: serde_json::Value = serde_json::from_str(&setup.done(&["status", "--json"])).unwrap();
    assert_eq!((&json[0]["generation"], &json[0]["slot"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(json[0]["model_hash"], hash);
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
}

#[test]
fn constants_take_no_update_e0708() {
    if common::skip("constants_take_no_update_e0708") {
        return;
    }
    let setup = installed("fixed");
    let path = setup.file("new.params");
    std::fs::write(&path, built::params_bytes(built::always(&setup.plan, 0).get(), 0)).unwrap();
    let error = refusal(&setup.run(&["update", &path]));
    let place = format!("--> {}", setup.pins.join("current/metadata").display());
    assert!(error.starts_with("error[E0708]") && error.contains(&place), "{error}");
    assert!(error.contains("= help: compile the retrained model to a new object"), "{error}");
}
