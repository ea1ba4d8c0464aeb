//! Runs the Python launcher's own tests under every Python found, as `test_launcher.py` describes.

use std::path::Path;
use std::process::Command;

#[test]
fn the_launcher_keeps_its_promises_under_every_python_found() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launcher/test_launcher.py");
    let output = Command::new("python3").arg(script).output().expect("python3 is installed");
    let told = String::from_utf8_lossy(&output.stderr);
    println!("{}{told}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "the launcher's tests failed");
}
