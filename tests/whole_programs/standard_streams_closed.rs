//! Whichever of the standard streams are closed, when the program starts or later, pools and processes work.

use crate::support::{Ended, VARIABLE, directory, line_in, over_every_transport, run, transport_name};
use std::process::Command;

over_every_transport! {
    closed_when_the_program_starts,
    closed_before_the_first_pool,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn closed_when_the_program_starts() {
    for closed in 0..8 {
        let directory = directory();
        let report = directory.path().join("report");
        let redirections = ["<&-", ">&-", "2>&-"];
        let redirections: Vec<_> = (0..3).filter(|bit| closed >> bit & 1 == 1).map(|bit| redirections[bit]).collect();
        let script = format!("exec \"$@\" {}", redirections.join(" "));
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, "sh", SCENARIO, "double-into-file"])
            .arg(&report)
            .arg("21")
            .env(VARIABLE, transport_name());
        let Ended { status, .. } = run(&mut command);
        assert!(status.success(), "{redirections:?}: {status}");
        assert_eq!(line_in(&report), "42", "{redirections:?}");
    }
}

fn closed_before_the_first_pool() {
    // Whatever the library opens then takes the numbers of the standard streams, unless it takes care.
    let directory = directory();
    let report = directory.path().join("report");
    let mut command = Command::new(SCENARIO);
    command.arg("double-without-streams").arg(&report).arg("21").env(VARIABLE, transport_name());
    let ended = run(&mut command);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(line_in(&report), "42");
}
