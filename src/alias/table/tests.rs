//! The table against a naive model, and what it forgets first.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::metrics::Metrics;

fn table(max: usize) -> Table {
    Table::new(max, Metrics::new().unwrap().alias, true)
}

fn hash(number: u8) -> IdentifierHash {
    IdentifierHash([number; 16])
}

fn tenant() -> Tenant {
    "ins_1".into()
}

impl Table {
    fn owner(&self, number: u8) -> Option<String> {
        self.user(&tenant(), hash(number)).map(Into::into)
    }

    fn is_consistent(&self) {
        let book = self.book();
        assert!(self.links.len() <= self.max);
        assert_eq!(self.links.len(), book.slots.len());
        for (slot, identifier) in book.slots.iter().enumerate() {
            let held = self.links.get(identifier).unwrap();
            assert_eq!(held.slot.load(Ordering::Relaxed), slot);
            assert!(book.people[&held.owner].names.contains(identifier));
        }
        assert_eq!(book.people.values().map(|person| person.names.len()).sum::<usize>(), book.slots.len());
        assert!(book.people.values().all(|person| (1..=MAX_NAMES).contains(&person.names.len())));
        assert_eq!(book.gone.len(), book.gone_in_order.len());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Learn { name: u8, user: u8, at: i64 },
    List { names: Vec<u8>, user: u8, complete: bool, at: i64 },
    Forget { user: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let learn = (0..12_u8, 0..5_u8, 0..40_i64).prop_map(|(name, user, at)| Step::Learn { name, user, at });
    let names = proptest::collection::vec(0..12_u8, 0..4);
    let list = (names, 0..5_u8, any::<bool>(), 0..40_i64);
    let list = list.prop_map(|(names, user, complete, at)| Step::List { names, user, complete, at });
    // Rarely: a user that was deleted says nothing more.
    let forget = (0..5_u8).prop_map(|user| Step::Forget { user });
    proptest::collection::vec(prop_oneof![12 => learn, 6 => list, 1 => forget], 0..120)
}

/// What is linked, written down in the plainest way.
#[derive(Default)]
struct Model {
    links: BTreeMap<u8, (u8, i64, bool)>,
    listed_at: BTreeMap<u8, i64>,
    gone: Vec<u8>,
}

impl Model {
    fn learn(&mut self, name: u8, user: u8, at: i64, listed: bool) {
        let (owner, said_at, was_listed) = self.links.get(&name).copied().unwrap_or((user, i64::MIN, false));
        if owner == user {
            self.links.insert(name, (user, at.max(said_at), listed || was_listed));
        } else if at >= said_at {
            self.links.insert(name, (user, at, listed));
            self.nameless(owner);
        }
    }

    /// With their last name people are forgotten.
    fn nameless(&mut self, user: u8) {
        if !self.links.values().any(|(owner, ..)| *owner == user) {
            self.listed_at.remove(&user);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Learn { user, .. } | Step::List { user, .. } if self.gone.contains(user) => {}
            Step::Learn { name, user, at } => self.learn(*name, *user, *at, false),
            Step::List { names, user, complete, at } => {
                if *complete {
                    if self.listed_at.get(user).is_some_and(|listed_at| listed_at > at) {
                        return;
                    }
                    self.links.retain(|name, (owner, said_at, listed)| {
                        owner != user || names.contains(name) || !*listed || *said_at > *at
                    });
                    self.nameless(*user);
                }
                for name in names {
                    self.learn(*name, *user, *at, true);
                }
                if *complete && self.links.values().any(|(owner, ..)| owner == user) {
                    self.listed_at.insert(*user, *at);
                }
            }
            Step::Forget { user } => {
                self.links.retain(|_, (owner, ..)| owner != user);
                self.listed_at.remove(user);
                self.gone.push(*user);
            }
        }
    }
}

fn apply(table: &Table, step: &Step) {
    let user = |user: &u8| format!("user_{user}");
    match step {
        Step::Learn { name, user: of, at } => table.learn(&tenant(), &user(of), hash(*name), Timestamp(*at)),
        Step::List { names, user: of, complete, at } => {
            let names: Vec<_> = names.iter().copied().map(hash).collect();
            table.list(&tenant(), &user(of), &names, *complete, Timestamp(*at));
        }
        Step::Forget { user: of } => drop(table.forget(&tenant(), &user(of))),
    }
}

/// What somebody holds who keeps every change, in batches of an awkward size.
fn keep(table: &Table, kept: &mut BTreeMap<IdentifierHash, Link>) {
    loop {
        let changes = table.changes(3);
        if changes.is_empty() {
            return;
        }
        for Change { identifier, link } in changes {
            match link {
                Some(link) => kept.insert(identifier, link),
                None => kept.remove(&identifier),
            };
        }
    }
}

proptest! {
    #[test]
    fn it_says_what_a_plain_list_of_links_says(steps in steps()) {
        let (table, mut model, mut kept) = (table(1000), Model::default(), BTreeMap::new());
        for (number, step) in steps.iter().enumerate() {
            apply(&table, step);
            model.step(step);
            for name in 0..12 {
                let expected = model.links.get(&name).map(|(user, ..)| format!("user_{user}"));
                prop_assert_eq!(table.owner(name), expected, "name {} after {:?}", name, step);
            }
            if number % 7 == 0 {
                keep(&table, &mut kept);
            }
        }
        table.is_consistent();
        // What was kept is what is known, and makes the same table again.
        keep(&table, &mut kept);
        let again = super::tests::table(1000);
        for (identifier, link) in kept {
            again.take(Change { identifier, link: Some(link) }, false);
        }
        again.is_consistent();
        prop_assert!(again.changes(1).is_empty(), "what comes from whoever keeps it is kept already");
        for name in 0..12 {
            prop_assert_eq!(again.owner(name), table.owner(name));
        }
    }

    #[test]
    fn however_many_come_there_are_never_too_many(steps in steps()) {
        let (table, mut kept) = (table(5), BTreeMap::new());
        for step in &steps {
            apply(&table, step);
            keep(&table, &mut kept);
            table.is_consistent();
            prop_assert_eq!(kept.len(), table.len(), "what is forgotten is forgotten by whoever keeps it too");
        }
    }

    /// However what each of them learned is interleaved in the topic, all readers come to the same.
    #[test]
    fn receivers_that_read_each_others_changes_agree(ours in steps(), theirs in steps(), every in 1..9_usize) {
        let tables = [table(1000), table(1000)];
        let (mut topic, mut read) = (Vec::new(), [0, 0]);
        let mut exchange = |topic: &mut Vec<Change>| {
            for (table, read) in tables.iter().zip(&mut read) {
                topic.extend(table.changes(1000));
                for change in topic.iter().skip(*read) {
                    table.take(change.clone(), true);
                }
                *read = topic.len();
            }
        };
        let longest = ours.len().max(theirs.len());
        for number in 0..longest {
            for (table, steps) in tables.iter().zip([&ours, &theirs]) {
                // Deletions are told to one and heard by the other; who is gone stays the business of whoever was told.
                if let Some(step) = steps.get(number).filter(|step| !matches!(step, Step::Forget { .. })) {
                    apply(table, step);
                }
            }
            if number % every == 0 {
                exchange(&mut topic);
            }
        }
        for _ in 0..6 {
            exchange(&mut topic);
        }
        prop_assert!(tables.iter().all(|table| table.changes(1).is_empty()), "they never stop correcting each other");
        // One that starts now reads only the last word on each.
        let (late, mut last) = (table(1000), BTreeMap::new());
        for change in topic {
            last.insert(change.identifier, change);
        }
        for change in last.into_values() {
            late.take(change, false);
        }
        for name in 0..12 {
            prop_assert_eq!(tables[0].owner(name), tables[1].owner(name), "name {}", name);
            prop_assert_eq!(late.owner(name), tables[0].owner(name), "name {} at one that comes later", name);
        }
    }
}

#[test]
fn the_one_forgotten_is_not_one_that_is_used() {
    let table = table(4);
    let learn = |number: u8| {
        table.learn(&tenant(), &format!("user_{number}"), hash(number), Timestamp(0));
        // Nothing is learned while this is not done.
        assert!(table.changes(10).len() <= 2);
    };
    (0..4).for_each(learn);
    // A first round takes what all have since they came.
    learn(4);
    for number in 5..60 {
        let used = table.owner(3).or_else(|| table.owner(4)).unwrap();
        learn(number);
        assert!([3, 4].into_iter().filter_map(|it| table.owner(it)).any(|it| it == used), "{used} at {number}");
    }
    assert_eq!((table.len(), table.metrics.evictions.get()), (4, 56));
    assert_eq!(table.metrics.entries.get(), 4);
}

#[test]
fn what_is_known_already_is_not_kept_again_before_a_day_is_over() {
    let table = table(10);
    let at = |hours: i64| Timestamp(hours * 3_600_000);
    table.learn(&tenant(), "user_1", hash(1), at(1));
    assert_eq!(table.changes(10).len(), 1);
    for hours in 2..24 {
        table.learn(&tenant(), "user_1", hash(1), at(hours));
        assert!(table.changes(10).is_empty(), "hour {hours}");
    }
    table.learn(&tenant(), "user_1", hash(1), at(24));
    let [Change { link: Some(link), .. }] = &table.changes(10)[..] else { panic!("the day is not kept") };
    assert_eq!(link.said_at, at(24));
    // A word about the time in between comes too late, though it was not kept.
    table.learn(&tenant(), "user_2", hash(1), at(23));
    assert_eq!(table.owner(1).as_deref(), Some("user_1"));
}

#[test]
fn a_user_id_reported_for_everybody_takes_no_more_than_a_persons_names() {
    let table = table(1000);
    for number in 0..200 {
        table.learn(&tenant(), "user_anonymous", hash(number), Timestamp(i64::from(number)));
    }
    assert_eq!(table.len(), MAX_NAMES);
    table.learn(&tenant(), "user_2", hash(0), Timestamp(1000));
    assert_eq!(table.owner(0).as_deref(), Some("user_2"), "a newer word still takes one away");
}

#[test]
fn another_instances_record_is_not_resolved() {
    let table = table(10);
    table.learn(&tenant(), "user_1", hash(1), Timestamp(0));
    assert_eq!(table.user(&"ins_2".into(), hash(1)), None);
    assert_eq!(table.metrics.resolved.get(), 0);
}

#[test]
fn nothing_more_is_learned_while_nobody_can_keep_it() {
    let table = table(3);
    for number in 0..3 {
        table.learn(&tenant(), &format!("user_{number}"), hash(number), Timestamp(0));
    }
    table.learn(&tenant(), "user_9", hash(9), Timestamp(0));
    assert_eq!((table.owner(9), table.len()), (None, 3));
    assert_eq!(table.changes(10).len(), 3);
    table.learn(&tenant(), "user_9", hash(9), Timestamp(0));
    assert_eq!(table.owner(9).as_deref(), Some("user_9"));
}
