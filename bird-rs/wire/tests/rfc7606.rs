//! Malformed messages: what RFC 7606 and RFC 4271 section 6 ask for.

use bird_wire::{AttributeAction, Context, Message, Notification, Update};

const INTERNAL: Context =
    Context { as4: true, add_path_rx: [false; 2], add_path_tx: [false; 2], extended: false, external: false };

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend(u16::try_from(19 + body.len()).expect("short").to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// An UPDATE that announces 10.0.0.0/8 with these attributes.
fn announcing(attributes: &[u8], ctx: &Context) -> Result<Update, Notification> {
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).expect("short").to_be_bytes());
    body.extend(attributes);
    body.extend([8, 10]);
    match Message::decode(&message(2, &body), ctx) {
        Ok(Message::Update(update)) => Ok(*update),
        Ok(other) => panic!("{other:?} is no UPDATE"),
        Err(error) => Err(error.notification),
    }
}

const ORIGIN: [u8; 4] = [0x40, 1, 1, 0];
const PATH: [u8; 9] = [0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const NEXT_HOP: [u8; 7] = [0x40, 3, 4, 10, 0, 0, 1];

fn with(extra: &[u8]) -> Vec<u8> {
    [&ORIGIN[..], &PATH, &NEXT_HOP, extra].concat()
}

fn action(attributes: &[u8]) -> Option<AttributeAction> {
    let update = announcing(attributes, &INTERNAL).expect("the session survives");
    let action = update.malformed.map(|m| m.action);
    let withdrawn = action == Some(AttributeAction::TreatAsWithdraw);
    assert_eq!(update.announced.is_empty(), withdrawn, "routes are announced or withdrawn, never both");
    assert_eq!(update.withdrawn.len(), usize::from(withdrawn));
    action
}

#[test]
fn well_formed_attributes_pass() {
    assert_eq!(action(&with(&[])), None);
}

#[test]
fn a_missing_mandatory_attribute_withdraws_the_routes() {
    let withdraw = Some(AttributeAction::TreatAsWithdraw);
    assert_eq!(action(&[&PATH[..], &NEXT_HOP].concat()), withdraw);
    assert_eq!(action(&[&ORIGIN[..], &NEXT_HOP].concat()), withdraw);
    assert_eq!(action(&[&ORIGIN[..], &PATH].concat()), withdraw);
}

#[test]
fn attributes_that_choose_routes_withdraw_when_malformed() {
    let withdraw = Some(AttributeAction::TreatAsWithdraw);
    let cases: [&[u8]; 7] = [
        &[0x80, 4, 3, 0, 0, 0],        // MED of three bytes
        &[0x40, 5, 2, 0, 0],           // LOCAL_PREF of two
        &[0xc0, 8, 3, 0, 0, 0],        // communities of three
        &[0x80, 9, 3, 0, 0, 0],        // ORIGINATOR_ID of three
        &[0x80, 10, 5, 0, 0, 0, 0, 0], // CLUSTER_LIST of five
        &[0xc0, 32, 4, 0, 0, 0, 0],    // large community of four
        &[0x40, 4, 4, 0, 0, 0, 0],     // MED with the flags of a well-known attribute
    ];
    for case in cases {
        assert_eq!(action(&with(case)), withdraw, "{case:?}");
    }
    let bad_origin = [&[0x40, 1, 1, 7][..], &PATH, &NEXT_HOP].concat();
    assert_eq!(action(&bad_origin), withdraw);
    let bad_path = [&ORIGIN[..], &[0x40, 2, 3, 2, 9, 0], &NEXT_HOP].concat();
    assert_eq!(action(&bad_path), withdraw);
}

#[test]
fn attributes_that_only_inform_are_dropped_when_malformed() {
    let discard = Some(AttributeAction::Discard);
    assert_eq!(action(&with(&[0x40, 6, 1, 0])), discard);
    assert_eq!(action(&with(&[0xc0, 7, 2, 0, 0])), discard);
    assert_eq!(action(&with(&ORIGIN)), discard);
}

#[test]
fn internal_attributes_from_outside_are_ignored() {
    let external = Context { external: true, ..INTERNAL };
    for case in [&[0x40, 5, 4, 0, 0, 0, 200][..], &[0x80, 9, 4, 1, 1, 1, 1], &[0x80, 10, 4, 1, 1, 1, 1]] {
        let update = announcing(&with(case), &external).expect("the session survives");
        assert_eq!(update.attrs.local_pref, None);
        assert_eq!(update.attrs.originator_id, None);
        assert!(update.attrs.cluster_list.is_empty() && update.announced.len() == 1);
    }
}

#[test]
fn an_unknown_transitive_attribute_travels_on_as_partial() {
    let update = announcing(&with(&[0xc0, 200, 2, 1, 2]), &INTERNAL).expect("the session survives");
    let [unknown] = update.attrs.unknown.as_slice() else { panic!("it is kept") };
    assert_eq!((unknown.flags, unknown.code, unknown.data.as_slice()), (0xe0, 200, &[1, 2][..]));
    let update = announcing(&with(&[0x80, 200, 2, 1, 2]), &INTERNAL).expect("the session survives");
    assert!(update.attrs.unknown.is_empty(), "a non-transitive one is dropped");
}

#[test]
fn routes_that_cannot_be_told_reset_the_session() {
    let twice = with(&[0x80, 15, 3, 0, 2, 1, 0x80, 15, 3, 0, 2, 1]);
    assert_eq!(announcing(&twice, &INTERNAL), Err(Notification::new(3, 1)));
    let cut = with(&[0x80, 14, 3, 0, 2, 1]);
    assert_eq!(announcing(&cut, &INTERNAL), Err(Notification::new(3, 9)));
    let bad_prefix = message(2, &[0, 0, 0, 0, 33, 10, 0, 0, 0, 0]);
    let error = Message::decode(&bad_prefix, &INTERNAL).expect_err("a prefix of 33 bits");
    assert_eq!(error.notification, Notification::new(3, 10));
}

#[test]
fn broken_headers_are_answered_with_their_code() {
    let code = |data: &[u8]| {
        let error = Message::decode(data, &INTERNAL).expect_err("a broken header").notification;
        (error.code, error.subcode)
    };
    let mut unsynchronized = message(4, &[]);
    unsynchronized[3] = 0;
    assert_eq!(code(&unsynchronized), (1, 1));
    assert_eq!(code(&message(4, &[0])), (1, 2));
    assert_eq!(code(&message(1, &[4, 0])), (1, 2));
    assert_eq!(code(&message(9, &[])), (1, 3));
    let old = message(1, &[3, 0, 1, 0, 90, 1, 1, 1, 1, 0]);
    assert_eq!(code(&old), (2, 1));
}

#[test]
fn two_octet_paths_are_completed_from_as4_path() {
    let old = Context { as4: false, ..INTERNAL };
    let path = [0x40, 2, 6, 2, 2, 0xfd, 0xe9, 0x5b, 0xa0];
    let as4 = [0xc0, 17, 6, 2, 1, 0xfa, 0x56, 0xea, 0x01];
    let update = announcing(&[&ORIGIN[..], &path, &NEXT_HOP, &as4].concat(), &old).expect("well-formed");
    assert_eq!(update.attrs.as_path.expect("a path").to_string(), "65001 4200000001");
}
