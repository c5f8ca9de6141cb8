//! A database that refuses an upload, everything, or does not answer.

use super::*;

#[test]
fn stores_the_rest_of_a_group_when_the_database_refuses_one_upload() {
    let dup = |at: &[u32]| Refused(at.to_vec());
    check(
        &[(Some(Fault::Refused), None)],
        [Failed, Stored, Stored, Taken, Stored, dup(&[1])],
    );
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let mut other = Store::open(&database).unwrap();
    let (arrived, arrivals) = bounded(0);
    let (go_on, may_go_on) = bounded(0);
    let failing = database.failing(move |step| match step {
        Step::Insert("bad") => Some(Fault::Refused),
        Step::Insert("z" | "a") => {
            arrived.send(()).unwrap();
            may_go_on.recv().unwrap();
            None
        }
        _ => None,
    });
    let gateway = Gateway::start(&failing, UnixMillis(0));
    let z = gateway.send(&upload("z", &[99]));
    arrivals.recv().unwrap();
    let a = gateway.send(&upload("a", &[1]));
    let bad = gateway.send(&upload("bad", &[2]));
    go_on.send(()).unwrap();
    // Both in one group, whose second is refused.
    arrivals.recv().unwrap();
    let early = gateway.send(&upload("early", &[3, 4]));
    go_on.send(()).unwrap();
    // By itself.
    arrivals.recv().unwrap();
    let beside = gateway.send(&upload("beside", &[5, 6]));
    let shares = gateway.send(&upload("shares", &[2]));
    upload("faster", &[6, 3]).append(&mut other, 2);
    go_on.send(()).unwrap();
    // Again, after the other gateway's.
    arrivals.recv().unwrap();
    let late = gateway.send(&upload("late", &[7, 1]));
    let last = gateway.send(&upload("last", &[8, 6]));
    go_on.send(()).unwrap();
    let answers =
        [z, a, bad, early, beside, shares, late, last].map(|answer| answer.recv().unwrap());
    let expected = [
        Stored,
        Stored,
        Failed,
        dup(&[0]),
        dup(&[1]),
        Stored,
        dup(&[1]),
        dup(&[1]),
    ];
    assert_eq!(answers, expected);
    gateway.stop();
    assert_eq!(log(&database).len(), 4);
}

#[test]
fn a_conflict_keeps_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let connections = Arc::new(AtomicU64::new(0));
    let (counter, conflicts) = (Arc::clone(&connections), AtomicU64::new(0));
    let failing = database.failing(move |step| match step {
        Step::Connect => {
            counter.fetch_add(1, Ordering::Relaxed);
            None
        }
        Step::Insert("a") if conflicts.fetch_add(1, Ordering::Relaxed) < 3 => Some(Fault::Conflict),
        _ => None,
    });
    let gateway = Gateway::start(&failing, UnixMillis(0));
    let before = connections.load(Ordering::Relaxed);
    assert_eq!(gateway.send(&upload("a", &[1])).recv(), Ok(Stored));
    assert_eq!(connections.load(Ordering::Relaxed), before);
    gateway.stop();
}

#[test]
fn a_database_that_refuses_everything_is_told_from_one_that_refuses_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let (arrived, arrivals) = bounded(0);
    let (go_on, may_go_on) = bounded(0);
    let is_full = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicU64::new(0));
    let (full, counter) = (Arc::clone(&is_full), Arc::clone(&refused));
    let failing = database.failing(move |step| match step {
        Step::Insert("bad") => Some(Fault::Refused),
        Step::Insert("z") => {
            arrived.send(()).unwrap();
            may_go_on.recv().unwrap();
            None
        }
        Step::Insert(_) if full.load(Ordering::SeqCst) => {
            counter.fetch_add(1, Ordering::SeqCst);
            Some(Fault::Refused)
        }
        _ => None,
    });
    let gateway = Gateway::start(&failing, UnixMillis(0));
    assert_eq!(gateway.send(&upload("bad", &[1])).recv(), Ok(Failed));
    assert_eq!(gateway.state.health.refusal(), None);

    let z = gateway.send(&upload("z", &[99]));
    arrivals.recv().unwrap();
    // All in the next group.
    let group = [2, 3, 4].map(|key| gateway.send(&upload(&key.to_string(), &[key])));
    is_full.store(true, Ordering::SeqCst);
    go_on.send(()).unwrap();
    assert_eq!(z.recv(), Ok(Stored));
    for answer in group {
        assert_eq!(answer.recv(), Ok(Failed));
    }
    assert_eq!(gateway.state.health.refusal().as_deref(), Some("refused"));
    // The group and the probe; not each of the three again.
    assert_eq!(refused.load(Ordering::SeqCst), 2);

    is_full.store(false, Ordering::SeqCst);
    assert_eq!(gateway.send(&upload("again", &[30])).recv(), Ok(Stored));
    assert_eq!(gateway.state.health.refusal(), None);
    gateway.stop();
    assert_eq!(log(&database).len(), 2, "a probe leaves nothing");
}

#[test]
fn refuses_everything_queued_while_the_database_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let (arrived, arrivals) = bounded(0);
    let (go_on, may_go_on) = bounded::<()>(0);
    let is_away = Arc::new(AtomicBool::new(false));
    let connects = Arc::new(AtomicU64::new(0));
    let (away, counter) = (Arc::clone(&is_away), Arc::clone(&connects));
    let failing = database.failing(move |step| match step {
        Step::Insert("a") if !away.load(Ordering::SeqCst) => {
            arrived.send(()).unwrap();
            may_go_on.recv().ok()?;
            away.store(true, Ordering::SeqCst);
            Some(Fault::Lost)
        }
        Step::Connect if away.load(Ordering::SeqCst) => {
            counter.fetch_add(1, Ordering::SeqCst);
            Some(Fault::Lost)
        }
        _ => None,
    });
    let gateway = Gateway::start_with(&failing, UnixMillis(0), Duration::from_millis(100));
    let (answered, answers) = bounded(100);
    let send = |upload: &Upload| {
        let (answered, connects) = (answered.clone(), Arc::clone(&connects));
        gateway.send_to(upload, move |answer| {
            let connects = connects.load(Ordering::SeqCst);
            answered.send((answer, connects)).unwrap();
        });
    };
    send(&upload("a", &[1]));
    arrivals.recv().unwrap();
    // Four groups, and one that is put off.
    for number in 2..10 {
        let mut large = upload(&number.to_string(), &[number]);
        large.bytes = limits::GROUP_BYTES_MAX / 2;
        send(&large);
    }
    send(&upload("shares", &[1, 20]));
    go_on.send(()).unwrap();
    let heard: Vec<_> = answers.iter().take(10).collect();
    let at_once = heard[0].1;
    assert_eq!(heard, vec![(Failed, at_once); 10]);
    drop((go_on, arrivals));
    is_away.store(false, Ordering::SeqCst);
    // The writer's next attempt to connect may have failed just now.
    let again = upload("2", &[2]);
    while gateway.send(&again).recv().unwrap() == Failed {}
    gateway.stop();
    assert_eq!(log(&database).len(), 1);
}

#[test]
fn does_not_lock_the_log_for_want_of_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let database = on_sqlite(&folder);
    let refused = AtomicU64::new(0);
    let failing = database.failing(move |step| match step {
        Step::Insert("a") if refused.load(Ordering::SeqCst) == 0 => {
            refused.store(1, Ordering::SeqCst);
            Some(Fault::Lost)
        }
        Step::Connect => {
            let number = refused.load(Ordering::SeqCst);
            let is_refused = (1..=u64::from(limits::LOST_RACES_MAX)).contains(&number);
            is_refused.then(|| {
                refused.fetch_add(1, Ordering::SeqCst);
                Fault::Lost
            })
        }
        Step::LockLog => panic!("nobody was faster"),
        _ => None,
    });
    let gateway = Gateway::start(&failing, UnixMillis(0));
    assert_eq!(gateway.send(&upload("a", &[1])).recv(), Ok(Stored));
    gateway.stop();
}
