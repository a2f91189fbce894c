//! What sources say, who wins, and what errors name.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::app::RunAs;

fn load(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
    let args = ["trilith"].iter().chain(args).map(OsString::from);
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let invocation = command_line(args, variables).map_err(|error| error.to_string())?;
    Config::load(invocation).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn yaml(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trilith.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn told_nothing_it_has_the_defaults_that_the_table_names() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.data_dir, Path::new("trilith-data"));
    assert_eq!(config.retention.logs, Some(Duration::from_secs(14 * 86_400)));
    let in_words = |name: &str| name.starts_with("listen-") || name == "run-as";
    for setting in SETTINGS.iter().filter(|setting| !in_words(setting.name)) {
        let mut again = config.clone();
        (setting.set)(&mut again, setting.default).unwrap();
        again.effective.clone_from(&config.effective);
        assert_eq!(format!("{again:?}"), format!("{config:?}"), "default of {}", setting.name);
    }
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let (_folder, path) = yaml("retention-metrics: 1d\nretention-logs: 1d\nretention-traces: 1d\n");
    let variables = [("TRILITH_RETENTION_LOGS", "2d"), ("TRILITH_RETENTION_TRACES", "2d")];
    let config = load(&["--config", &path, "--retention-traces", "3d"], &variables).unwrap();
    let days = |duration: Option<Duration>| duration.unwrap().as_secs() / 86_400;
    assert_eq!(days(config.retention.metrics), 1);
    assert_eq!(days(config.retention.logs), 2);
    assert_eq!(days(config.retention.traces), 3);
    assert_eq!(config.effective["retention-metrics"].1, Origin::File { path: path.into(), line: 1 });
}

#[test]
fn limits_of_series_are_not_wider_than_what_is_read_of_a_request() {
    assert_eq!(load(&["--labels-limit", "128"], &[]).unwrap().metrics.labels_max, 128);
    for (flag, value) in [("labels-limit", "129"), ("label-name-limit", "1025"), ("label-value-limit", "65537")] {
        let error = load(&[&format!("--{flag}"), value], &[]).unwrap_err();
        assert!(error.contains(flag) && error.contains("the most that a request may have"), "{error}");
    }
}

#[test]
fn the_file_can_be_named_by_a_variable() {
    let (_folder, path) = yaml("listen: 127.0.0.1:1234\n");
    assert_eq!(load(&[], &[("TRILITH_CONFIG", &path)]).unwrap().listen.port(), 1234);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_right_one() {
    let (_folder, path) = yaml("listen: 127.0.0.1:1\nretention-metric: 30d\n");
    let error = load(&["--config", &path], &[]).unwrap_err();
    assert_eq!(error, format!("{path}, line 2: unknown key \"retention-metric\"; did you mean \"retention-metrics\"?"));
    let error = load(&["--retention-metric", "30d"], &[]).unwrap_err();
    assert!(error.contains("--retention-metric'") && error.contains("'--retention-metrics'"), "{error}");
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_nearest_right_name() {
    let config = load(&[], &[("TRILITH_DATADIR", "x"), ("TRILITH_LISTEN", "127.0.0.1:4")]).unwrap();
    assert_eq!(config.listen.port(), 4);
    let expected = "variable TRILITH_DATADIR: unknown key \"TRILITH_DATADIR\"; did you mean \"TRILITH_DATA_DIR\"?";
    assert_eq!(config.warnings, [expected]);
}

#[test]
fn what_kubernetes_says_of_a_service_named_trilith_ends_no_start() {
    let injected = [
        ("TRILITH_SERVICE_HOST", "10.96.0.1"),
        ("TRILITH_SERVICE_PORT", "9090"),
        ("TRILITH_SERVICE_PORT_HTTP", "9090"),
        ("TRILITH_PORT", "tcp://10.96.0.1:9090"),
        ("TRILITH_PORT_9090_TCP", "tcp://10.96.0.1:9090"),
        ("TRILITH_PORT_9090_TCP_ADDR", "10.96.0.1"),
    ];
    assert_eq!(load(&[], &injected).unwrap().warnings.len(), injected.len());
    // A name that we know must be meant for us.
    let error = load(&[], &[("TRILITH_LISTEN", "tcp://10.96.0.1:9090")]).unwrap_err();
    assert!(error.starts_with("variable TRILITH_LISTEN: "), "{error}");
}

#[test]
fn a_bad_value_is_an_error_even_where_another_source_overrides_it() {
    let (_folder, path) = yaml("\nretention-metrics: soon\nlog-format: xml\n");
    let error = load(&["--config", &path, "--retention-metrics", "1d"], &[]).unwrap_err();
    assert!(error.contains("line 2: retention-metrics: \"soon\" is not a duration"), "{error}");
    assert!(error.contains("line 3: log-format: \"xml\" is neither text nor json"), "{error}");
}

#[test]
fn a_bad_value_names_its_flag_or_variable_once() {
    let error = load(&["--retention-logs", "soon"], &[]).unwrap_err();
    assert!(error.starts_with("--retention-logs: \"soon\" is not a duration"), "{error}");
    let error = load(&[], &[("TRILITH_RETENTION_LOGS", "soon")]).unwrap_err();
    assert!(error.starts_with("variable TRILITH_RETENTION_LOGS: \"soon\" is not a duration"), "{error}");
}

#[test]
fn a_key_like_no_other_gets_no_suggestion() {
    let (_folder, path) = yaml("a: 1\n");
    assert_eq!(load(&["--config", &path], &[]).unwrap_err(), format!("{path}, line 1: unknown key \"a\""));
}

#[test]
fn a_key_set_twice_names_both_lines() {
    let (_folder, path) = yaml("retention-logs: 1d\nretention:\n  logs: 2d\n");
    let error = load(&["--config", &path], &[]).unwrap_err();
    assert!(error.ends_with("line 3: retention-logs is set twice; it is also on line 1"), "{error}");
}

#[test]
fn values_mean_what_they_say() {
    let set = |name: &str, text: &str| load(&[&format!("--{name}"), text], &[]);
    let metrics = |text| set("retention-metrics", text).map(|config| config.retention.metrics);
    assert_eq!(metrics("forever"), Ok(None));
    assert_eq!(metrics("1h30m"), Ok(Some(Duration::from_secs(5_400))));
    assert_eq!(metrics("2w"), Ok(Some(Duration::from_secs(14 * 86_400))));
    for wrong in ["", "0", "0d", "59s", "d", "1", "-1d", "1x", "1d2", "99999999999999999999d", "1 d"] {
        assert!(metrics(wrong).is_err(), "{wrong}");
    }
    let memory = |text| set("query-memory-max", text).map(|config| config.query_memory_max.of(1_000));
    assert_eq!(memory("50%"), Ok(500));
    assert_eq!(memory("2048KiB"), Ok(2 << 20));
    assert_eq!(memory("1.5GiB"), Ok(3 << 29));
    assert_eq!(memory("1234567"), Ok(1_234_567));
    assert!(memory("1023KiB").unwrap_err().contains("at least 1MiB"));
    assert!(metrics("59s").unwrap_err().contains("at least 1m"));
    assert!(set("query-timeout", "99ms").unwrap_err().contains("at least 100ms"));
    assert!(set("query-timeout", "100ms").is_ok());
    for wrong in ["0", "101%", "-1%", "NaN%", "GiB", "1XB", "1e3"] {
        assert!(memory(wrong).is_err(), "{wrong}");
    }
    assert!(set("memory-limit", "64MiB").is_ok() && set("disk-limit", "64MiB").is_ok());
    for (name, little) in [("memory-limit", "50"), ("memory-limit", "63MiB"), ("disk-limit", "10MB")] {
        let error = set(name, little).unwrap_err();
        assert!(error.contains(name) && error.contains("at least 64MiB"), "{error}");
    }
    assert!(set("listen", ":9090").unwrap_err().contains("0.0.0.0:9090"));
    assert_eq!(set("run-as", "10001:10002").unwrap().run_as, Some(RunAs { uid: 10_001, gid: 10_002 }));
    for wrong in ["0:0", "10001", "a:b", "-1:1", "4294967295:1"] {
        assert!(set("run-as", wrong).is_err(), "{wrong}");
    }
    assert!(set("log-level", "loud").is_err());
    assert!(set("log-level", "info,trilith::store=debug").is_ok());
}

#[test]
fn extra_listeners_follow_the_main_one_unless_told() {
    let config =
        load(&["--listen", "0.0.0.0:80", "--listen-loki", "off", "--listen-tempo", "127.0.0.1:1"], &[]).unwrap();
    assert_eq!(config.address(Extra::OtlpGrpc).unwrap().to_string(), "0.0.0.0:4317");
    assert_eq!(config.address(Extra::Loki), None);
    assert_eq!(config.address(Extra::Tempo).unwrap().to_string(), "127.0.0.1:1");
    let config = load(&["--no-extra-listeners"], &[]).unwrap();
    assert!(Extra::ALL.iter().all(|extra| config.address(*extra).is_none()));
    let config = load(&[], &[("TRILITH_NO_EXTRA_LISTENERS", "true")]).unwrap();
    assert!(config.no_extra_listeners);
}

#[test]
fn commands_take_the_flags_before_and_after_their_name() {
    for args in [["check-config", "--listen", "127.0.0.1:7"], ["--listen", "127.0.0.1:7", "check-config"]] {
        let config = load(&args, &[]).unwrap();
        assert_eq!(config.invocation.command, Command::CheckConfig);
        assert_eq!(config.listen.port(), 7);
    }
}

#[test]
fn a_switch_is_turned_on_and_off_by_value_too() {
    assert!(load(&["--admin-api"], &[]).unwrap().admin_api);
    assert!(load(&["--admin-api=true"], &[]).unwrap().admin_api);
    assert!(!load(&["--admin-api=false"], &[("TRILITH_ADMIN_API", "true")]).unwrap().admin_api);
    let error = load(&["--admin-api=maybe"], &[]).unwrap_err();
    assert!(error.starts_with("--admin-api: \"maybe\" is neither true nor false"), "{error}");
    let error = load(&["--admin-api", "false"], &[]).unwrap_err();
    assert!(error.contains("tip: write --NAME=true or --NAME=false"), "{error}");
}

#[test]
fn what_other_programs_call_it_gets_a_tip() {
    for (written, tip) in [
        ("--port", "--listen 127.0.0.1:9090"),
        ("--port=80", "--listen 127.0.0.1:9090"),
        ("-p", "--listen 127.0.0.1:9090"),
        ("--web.listen-address=:80", "--listen 127.0.0.1:9090"),
        ("--storage.tsdb.path", "--data-dir DIR"),
        ("--retention", "--retention-metrics 30d, --retention-logs 14d, --retention-traces 7d"),
        ("--config.file=x.yml", "--config FILE"),
        ("--verbose", "--log-level debug"),
        ("start", "trilith serve"),
        ("validate", "trilith check-config"),
    ] {
        let error = load(&[written], &[]).unwrap_err();
        assert_eq!(error.matches("tip:").count(), 1, "{written}: {error}");
        assert!(error.contains(&format!("tip: write {tip}\n")), "{written}: {error}");
    }
}

#[test]
fn serve_help_and_version_are_commands_and_help_shows_what_a_command_takes() {
    let config = load(&["serve", "--listen", "127.0.0.1:7"], &[]).unwrap();
    assert_eq!((config.invocation.command, config.listen.port()), (Command::Serve, 7));
    assert_eq!(load(&["version"], &[]).unwrap().invocation.command, Command::Version);
    let all = load(&["--help"], &[]).unwrap_err();
    assert_eq!(load(&["help"], &[]).unwrap_err(), all);
    let repair = load(&["repair", "--help"], &[]).unwrap_err();
    assert_eq!(load(&["help", "repair"], &[]).unwrap_err(), repair);
    let shown = |help: &str| -> Vec<String> {
        let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        flags.map(|flag| flag.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(shown(&repair), ["config", "data-dir", "run-as"]);
    assert_eq!(shown(&load(&["healthcheck", "--help"], &[]).unwrap_err()), ["config", "listen"]);
    assert_eq!(shown(&load(&["version", "--help"], &[]).unwrap_err()), Vec::<String>::new());
    assert_eq!(shown(&all).len(), SETTINGS.len() + 1);
    // One set of flags may be given to all of them.
    assert_eq!(load(&["repair", "--log-level", "debug"], &[]).unwrap().log_level, "debug");
}

#[test]
fn the_help_fits_a_screen() {
    let help = load(&["--help"], &[]).unwrap_err();
    assert!(help.lines().count() <= 56, "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
}
