//! A small ground truth, and reports in both forms.

use std::path::Path;

use super::attacks::Attacks;
use super::flows::Flows;
use super::reports::Report;
use super::{same, table};

const LABELS: &str = "start_ns,end_ns,source,target,kind,held_out,command\n\
    10000000000,11000000000,10.0.0.9,10.0.0.1,syn-scan,1,\"nmap -p 1,2\"\n";

const FLOWS: &str = "first_ns,last_ns,src,dst,sport,dport,proto,trigger,packets\n\
    9500000000,9600000000,10.0.0.9,10.0.0.1,5000,22,6,end,2\n\
    12900000000,13000000000,10.0.0.9,10.0.0.1,5001,23,6,eof,2\n\
    13100000000,13200000000,10.0.0.9,10.0.0.1,5002,24,6,end,2\n\
    100,200,fd00::5,fd00::1,5000,80,6,every,64\n\
    100,300,fd00::5,fd00::1,5000,80,6,idle,70\n\
    90000000000,90000000001,fd00::5,fd00::1,5000,80,6,eof,1\n";

const EVENTS: &str = "{\"time_ns\":9600000000,\"src\":\"10.0.0.1\",\"dst\":\"10.0.0.9\",\"sport\":22,\
    \"dport\":5000,\"proto\":6,\"trigger\":\"end\",\"label\":\"attack\",\"score\":0.9999996}\n\
    {\"time_ns\":90000000000,\"src\":\"fd00::5\",\"dst\":\"fd00::1\",\"sport\":5000,\"dport\":80,\
    \"proto\":6,\"trigger\":\"idle\",\"label\":\"attack\",\"score\":0.96}\n";

const VERDICTS: &str = "packet,ts_ns,src,dst,sport,dport,proto,trigger,label,score,action\n\
    1,9500000000,10.0.0.9,10.0.0.1,5000,22,6,,,,pass\n\
    2,9600000000,10.0.0.1,10.0.0.9,22,5000,6,end,attack,1.000000,drop+report\n\
    3,90000000000,fd00::5,fd00::1,5000,80,6,idle,attack,0.960000,report\n\
    3,90000000000,fd00::5,fd00::1,5000,80,6,,,,pass\n";

#[test]
fn flows_are_counted_by_kind() {
    let attacks = Attacks::read(LABELS).unwrap();
    let mut flows = Flows::read(FLOWS).unwrap();
    for report in Report::read(Path::new("events"), EVENTS).unwrap() {
        flows.find(&report).unwrap().reported = true;
    }
    for verdict in Report::of_class(VERDICTS, "attack").unwrap() {
        flows.find(&verdict).unwrap().classified = true;
    }
    let lines: Vec<Vec<String>> = table::table(&flows, &attacks)
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    // The flow of 13.1 s is too late for the attack; the idle report is about the older flow.
    assert_eq!(lines[1], ["syn-scan", "*", "2", "1", "1", "100.0", "%", "1", "100.0", "%"]);
    assert_eq!(lines[3], ["ordinary", "traffic", "(accused)", "3", "2", "1", "50.0", "%", "1", "50.0", "%"]);
    let first_alone = flows.iter().find(|(_, first_ns, _)| *first_ns == 100).unwrap();
    assert!(first_alone.2.reported);
}

#[test]
fn both_forms_of_reports_compare() {
    let events = Report::read(Path::new("events.json"), EVENTS).unwrap();
    let verdicts = Report::read(Path::new("verdicts.csv"), VERDICTS).unwrap();
    assert_eq!(same(&events, &verdicts), Ok(()));
    assert!(same(&events[1..], &verdicts).is_err());
    assert!(same(&events, &verdicts[..1]).unwrap_err().contains("2 reports were found, 1 expected"));
}

#[test]
fn what_is_no_report_is_named() {
    assert!(Report::read(Path::new("events"), "{}\n").unwrap_err().contains("no event"));
    assert!(Attacks::read("a,b\n1\n").is_err());
    assert!(Flows::read("first_ns\nx\n").is_err());
}
