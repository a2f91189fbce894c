//! What docker/dist packs beside the binary says what the server says. That the packages install, start and go again is
//! tests/dist/check.sh's to show.

use std::collections::BTreeMap;
use std::fs;

use trilith::app::config::{Config, SETTINGS};

use super::docker_files::docker;

fn packed(name: &str) -> String {
    fs::read_to_string(docker("dist").join(name)).unwrap()
}

/// Keys and values of the configuration file: those in force, and those that are comments (`#name: value`, without a space).
fn rows() -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut active, mut comments) = (BTreeMap::new(), BTreeMap::new());
    for line in packed("trilith.yaml").lines() {
        let (into, row) = match line.strip_prefix('#') {
            Some(row) if !row.is_empty() && !row.starts_with(' ') => (&mut comments, row),
            None if !line.is_empty() => (&mut active, line),
            _ => continue,
        };
        let (name, value) = row.split_once(": ").unwrap_or_else(|| panic!("{line}: neither words nor a setting"));
        let before = into.insert(name.to_owned(), value.trim_matches('\'').to_owned());
        assert_eq!(before, None, "{name} twice");
    }
    (active, comments)
}

#[test]
fn the_packaged_configuration_names_every_setting_with_its_default() {
    let (active, mut comments) = rows();
    assert_eq!(active, BTreeMap::from([("data-dir".to_owned(), "/var/lib/trilith".to_owned())]));
    for setting in SETTINGS {
        // The unit starts it as its own user already.
        if active.contains_key(setting.name) || setting.name == "run-as" {
            continue;
        }
        let value = comments.remove(setting.name).unwrap_or_else(|| panic!("{} is missing", setting.name));
        Config::default().set(setting.name, &value).unwrap_or_else(|problem| panic!("{}: {problem}", setting.name));
        let is_example = setting.default == "none";
        let expected = match setting.default.strip_prefix("main's address, ") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => setting.default.to_owned(),
        };
        assert!(is_example || value == expected, "{}: {value}, but the default is {expected}", setting.name);
    }
    assert!(comments.is_empty(), "no settings: {comments:?}");
}

#[test]
fn the_unit_keeps_data_where_the_configuration_has_it() {
    let unit = packed("trilith.service");
    let value = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("the unit has no {name}"))
    };
    let (active, _) = rows();
    assert_eq!(format!("/var/lib/{}", value("StateDirectory")), active["data-dir"]);
    assert_eq!(value("ExecStart"), "/usr/bin/trilith serve --config /etc/trilith/trilith.yaml");
    for script in ["postinst", "postrm"] {
        assert!(packed(&format!("deb/{script}")).contains(&active["data-dir"]), "{script}");
    }
}
