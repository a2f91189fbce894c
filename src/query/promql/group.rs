//! Which series an aggregation puts together. A series is looked up by the bytes of the labels that
//! count, so that labels are made once for a group, not once for a series.

use ahash::AHashMap;

use super::ast::Aggregate;
use super::value::belongs_to_name;
use crate::model::labels::Labels;

/// What a group takes beside its labels and cells: places, allocations.
const GROUP_BYTES: usize = 200;

/// One group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The labels that its series share.
    pub labels: Labels,
    /// Whether the name goes at the end of the query.
    pub drop_name: bool,
}

/// The groups of an aggregation, in the order in which they came up.
pub(super) struct Groups<'q> {
    aggregate: &'q Aggregate,
    /// Names of `by`, sorted; for `without` those of its labels.
    names: Vec<&'q str>,
    places: AHashMap<Labels, usize>,
    all: Vec<Group>,
    key: String,
}

impl<'q> Groups<'q> {
    /// None yet.
    pub(super) fn new(aggregate: &'q Aggregate) -> Self {
        let mut names: Vec<&str> = aggregate.labels.iter().map(String::as_str).collect();
        names.sort_unstable();
        Self { aggregate, names, places: AHashMap::new(), all: Vec::new(), key: String::new() }
    }

    /// Bytes of the labels of the group at a place, and of what is known of it.
    pub(super) fn bytes(&self, place: usize) -> usize {
        GROUP_BYTES + self.all.get(place).map_or(0, |group| group.labels.bytes())
    }

    /// The place of the group that a series belongs to, and whether it is a new one.
    pub(super) fn place(&mut self, labels: &Labels, drop_name: bool) -> (usize, bool) {
        self.key.clear();
        let names = &self.names;
        let dropped = |name: &str| belongs_to_name(name) || names.binary_search(&name).is_ok();
        if self.aggregate.without {
            labels.filter_key(&mut self.key, |name, _| !dropped(name));
        } else {
            labels.only_key(names, &mut self.key);
        }
        if let Some(place) = self.places.get(self.key.as_str()).copied() {
            if let Some(group) = self.all.get_mut(place) {
                group.drop_name |= drop_name;
            }
            return (place, false);
        }
        let labels = if self.aggregate.without {
            labels.filter(|name, _| !dropped(name))
        } else {
            labels.filter(|name, _| names.binary_search(&name).is_ok())
        };
        (self.add(Group { labels, drop_name }), true)
    }

    /// The place of a group of another list of the same aggregation, and whether it is new here.
    pub(super) fn merge(&mut self, group: &Group) -> (usize, bool) {
        match self.places.get(&group.labels).copied() {
            Some(place) => {
                if let Some(own) = self.all.get_mut(place) {
                    own.drop_name |= group.drop_name;
                }
                (place, false)
            }
            None => (self.add(group.clone()), true),
        }
    }

    fn add(&mut self, group: Group) -> usize {
        self.places.insert(group.labels.clone(), self.all.len());
        self.all.push(group);
        self.all.len() - 1
    }

    /// All groups.
    pub(super) fn all(&self) -> &[Group] {
        &self.all
    }

    /// All groups, when no more come.
    pub(super) fn into_all(self) -> Vec<Group> {
        self.all
    }
}
