//! Peerings that upstream tests without a rendered file: node deletion, and one session where two objects ask for it.

use confd::State;
use confd::peers::peerings;
use libcalico_api::{Kind, Resource};
use libcalico_model::{Key, Revision, Update};

fn put(state: &mut State, kind: Kind, json: &str) {
    let resource = Resource::from_json(kind, json.as_bytes()).unwrap();
    let key = Key::resource(kind, "", &resource.metadata().name);
    state.update(Update { key, value: Some(resource.into()), revision: Revision::default() });
}

fn remove(state: &mut State, kind: Kind, name: &str) {
    state.update(Update { key: Key::resource(kind, "", name), value: None, revision: Revision::default() });
}

fn cluster(nodes: u8) -> State {
    let mut state = State::new("node1");
    put(
        &mut state,
        Kind::BGPConfiguration,
        r#"{"metadata":{"name":"default"},"spec":{"nodeToNodeMeshEnabled":false}}"#,
    );
    for i in 1..=nodes {
        let json = format!(
            r#"{{"metadata":{{"name":"node{i}","labels":{{"node":"yes"}}}},"spec":{{"bgp":{{"ipv4Address":"10.24.0.{i}/24"}}}}}}"#
        );
        put(&mut state, Kind::Node, &json);
    }
    state
}

fn names(state: &State) -> Vec<String> {
    peerings(state).iter().map(confd::peers::Peering::name).collect()
}

#[test]
fn sessions_end_with_their_nodes() {
    let mut state = cluster(4);
    put(
        &mut state,
        Kind::BGPPeer,
        r#"{"metadata":{"name":"bgppeer-1"},"spec":{"nodeSelector":"has(node)","peerSelector":"has(node)"}}"#,
    );
    assert_eq!(names(&state), ["Node_10_24_0_2", "Node_10_24_0_3", "Node_10_24_0_4"]);
    remove(&mut state, Kind::Node, "node3");
    assert_eq!(names(&state), ["Node_10_24_0_2", "Node_10_24_0_4"]);
    remove(&mut state, Kind::Node, "node1");
    assert!(names(&state).is_empty());
}

#[test]
fn a_global_peering_wins_over_a_nodes_to_the_same_address() {
    let mut state = cluster(2);
    put(
        &mut state,
        Kind::BGPPeer,
        r#"{"metadata":{"name":"a-node-specific"},"spec":{"node":"node1","peerSelector":"has(node)"}}"#,
    );
    assert_eq!(names(&state), ["Node_10_24_0_2"]);
    put(&mut state, Kind::BGPPeer, r#"{"metadata":{"name":"global"},"spec":{"peerSelector":"has(node)"}}"#);
    assert_eq!(names(&state), ["Global_10_24_0_2"]);
}

#[test]
fn an_explicit_peering_takes_the_place_of_the_meshs() {
    let mut state = cluster(3);
    remove(&mut state, Kind::BGPConfiguration, "default");
    assert_eq!(names(&state), ["Mesh_10_24_0_2", "Mesh_10_24_0_3"]);
    put(
        &mut state,
        Kind::BGPPeer,
        r#"{"metadata":{"name":"p"},"spec":{"node":"node2","peerIP":"10.24.0.1"}}"#,
    );
    assert_eq!(names(&state), ["Mesh_10_24_0_3", "Node_10_24_0_2"]);
}

#[test]
fn the_other_end_expects_the_local_as_number_of_a_peering() {
    let mut state = cluster(2);
    put(
        &mut state,
        Kind::BGPPeer,
        r#"{"metadata":{"name":"p"},"spec":{"node":"node2","peerIP":"10.24.0.1","localASNumber":65001}}"#,
    );
    assert_eq!(peerings(&state)[0].as_number, 65001);
}

#[test]
fn a_reverse_peering_can_be_left_to_the_administrator() {
    let mut state = cluster(2);
    put(
        &mut state,
        Kind::BGPPeer,
        r#"{"metadata":{"name":"p"},"spec":{"node":"node2","peerIP":"10.24.0.1","reversePeering":"Manual"}}"#,
    );
    assert!(names(&state).is_empty());
}
