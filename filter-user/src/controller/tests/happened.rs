//! What listeners are told.

use std::time::Duration;

use api::{Event, Maintenance, Request, Unban};
use tokio::time::timeout;

use super::*;

/// The next events, without signs of life.
async fn events(
    listener: &mut tokio::sync::mpsc::Receiver<bytes::Bytes>,
    many: usize,
) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < many {
        let next = timeout(Duration::from_mins(1), listener.recv()).await.unwrap().unwrap();
        let text = String::from_utf8(next.to_vec()).unwrap();
        let data = text.lines().find_map(|line| line.strip_prefix("data: "));
        events.extend(data.map(|data| serde_json::from_str::<Event>(data).unwrap()));
    }
    events
}

#[tokio::test]
async fn bans_and_changes_are_told() {
    let mut controller = controller();
    controller.tell_changes(at(0));
    let mut listener = controller.events().listen(1).unwrap();
    fail(&mut controller, [203, 0, 113, 7], 15);
    controller.answer(Request::Unban(Unban::All), at(21));
    let on = Maintenance::On { seconds: 60, closed_to_known: false };
    controller.answer(Request::Maintenance(on), at(22));
    controller.datapath.bare = Some("it is gone".to_owned());
    controller.tell_changes(at(23));
    controller.datapath.bare = None;
    controller.tell_changes(at(100));
    let told = events(&mut listener, 8).await;
    let names: Vec<_> = told.iter().map(Event::name).collect();
    let [p, m] = ["protected", "maintenance"];
    assert_eq!(names, ["ban", "ban-end", m, p, p, p, p, m], "two interfaces");
    let Event::Ban { network, jail, .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!((&**network, &**jail), ("203.0.113.7", "asterisk-wazo"));
    assert!(matches!(&told[1], Event::BanEnd { lifted: true, .. }), "{told:?}");
    assert!(matches!(&told[2], Event::Maintenance { on: true, until: Some(_), .. }), "{told:?}");
    assert!(
        matches!(&told[3], Event::Protected { protected: false, why: Some(_), .. }),
        "{told:?}"
    );
    assert!(matches!(&told[6], Event::Protected { protected: true, why: None, .. }), "{told:?}");
    assert!(matches!(&told[7], Event::Maintenance { on: false, until: None, .. }), "{told:?}");
}
