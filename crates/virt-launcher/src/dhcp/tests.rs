//! Conversations with DHCP clients, honest and not.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use dhcproto::v4::{DhcpOption, Encodable, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn offer() -> Offer {
    Offer {
        mac: MAC,
        lease: DhcpLease {
            bridge: "k6t-eth0".to_owned(),
            server: Ipv4Addr::new(169, 254, 75, 10),
            address: Ipv4Addr::new(10, 244, 0, 5),
            prefix_len: 24,
            gateway: Some(Ipv4Addr::new(10, 244, 0, 1)),
            routes: Vec::new(),
            dns: vec![Ipv4Addr::new(10, 96, 0, 10)],
            search: vec![
                "default.svc.cluster.local".to_owned(),
                "cluster.local".to_owned(),
            ],
            hostname: "vm".to_owned(),
            mtu: 1450,
        },
        wished: WishedOptions::default(),
    }
}

fn request(kind: MessageType, change: impl Fn(&mut Message)) -> Vec<u8> {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(7, zero, zero, zero, zero, &MAC);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    change(&mut message);
    message.to_vec().unwrap()
}

fn answer(offer: &Offer, packet: &[u8]) -> Message {
    let reply = offer.reply(packet).unwrap();
    assert!(reply.len() >= 300);
    Message::decode(&mut Decoder::new(&reply)).unwrap()
}

fn kind(message: &Message) -> MessageType {
    match message.opts().get(OptionCode::MessageType) {
        Some(DhcpOption::MessageType(kind)) => *kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_discover_gets_the_pods_address_for_ever() {
    let message = answer(&offer(), &request(MessageType::Discover, |_| {}));
    assert_eq!(kind(&message), MessageType::Offer);
    assert_eq!(message.yiaddr(), Ipv4Addr::new(10, 244, 0, 5));
    assert_eq!(message.xid(), 7);
    for option in [
        DhcpOption::AddressLeaseTime(u32::MAX),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::Router(vec![Ipv4Addr::new(10, 244, 0, 1)]),
        DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 96, 0, 10)]),
        DhcpOption::Hostname("vm".to_owned()),
        DhcpOption::InterfaceMtu(1450),
        DhcpOption::DomainName("default.svc.cluster.local".to_owned()),
    ] {
        let code = OptionCode::from(&option);
        assert_eq!(message.opts().get(code), Some(&option));
    }
    assert!(message.opts().get(OptionCode::DomainSearch).is_some());
    assert!(
        message
            .opts()
            .get(OptionCode::ClasslessStaticRoute)
            .is_none()
    );
}

#[test]
fn a_request_is_acknowledged_or_refused() {
    let ask = |address| {
        request(MessageType::Request, move |m| {
            let wanted = DhcpOption::RequestedIpAddress(address);
            m.opts_mut().insert(wanted);
        })
    };
    let ours = answer(&offer(), &ask(Ipv4Addr::new(10, 244, 0, 5)));
    assert_eq!(kind(&ours), MessageType::Ack);
    let other = answer(&offer(), &ask(Ipv4Addr::new(192, 168, 0, 9)));
    assert_eq!(kind(&other), MessageType::Nak);
    assert_eq!(other.yiaddr(), Ipv4Addr::UNSPECIFIED);
}

#[test]
fn strangers_and_nonsense_get_silence() {
    let offer = offer();
    let stranger = request(MessageType::Discover, |m| {
        m.set_chaddr(&[2, 0, 0, 0, 0, 9]);
    });
    assert!(offer.reply(&stranger).is_none());
    let elsewhere = request(MessageType::Request, |m| {
        let server = Ipv4Addr::new(10, 9, 9, 9);
        m.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    });
    assert!(offer.reply(&elsewhere).is_none());
    let release = request(MessageType::Release, |_| {});
    assert!(offer.reply(&release).is_none());
    // A length of the hardware address beyond its field.
    let mut lying = request(MessageType::Discover, |_| {});
    lying[2] = 255;
    assert!(offer.reply(&lying).is_none());
    assert!(offer.reply(&[]).is_none());
}

#[test]
fn a_gateway_outside_the_subnet_gets_a_route_of_its_own() {
    let mut offer = offer();
    offer.lease.prefix_len = 32;
    offer.lease.gateway = Some(Ipv4Addr::new(169, 254, 1, 1));
    let routes = offer.routes();
    assert_eq!(
        routes,
        [
            &[32, 169, 254, 1, 1, 0, 0, 0, 0][..],
            &[0, 169, 254, 1, 1][..]
        ]
        .concat()
    );
}

#[test]
fn further_routes_come_before_the_default_one() {
    let mut offer = offer();
    offer.lease.routes = vec![(
        Ipv4Addr::new(10, 244, 0, 0),
        16,
        Ipv4Addr::new(10, 244, 0, 1),
    )];
    assert_eq!(
        offer.routes(),
        [&[16, 10, 244, 10, 244, 0, 1][..], &[0, 10, 244, 0, 1][..]].concat()
    );
}

#[test]
fn search_domains_that_are_none_are_left_out() {
    let domains = ["a.b".to_owned(), "..".to_owned(), "x".repeat(64)];
    assert_eq!(search(&domains), [1, b'a', 1, b'b', 0]);
}

#[test]
fn wished_options_are_sent() {
    let mut offer = offer();
    offer.wished = serde_json::from_value(serde_json::json!({
        "tftpServerName": "boot.example", "bootFileName": "pxe", "ntpServers": ["10.0.0.1"],
        "privateOptions": [{"option": 240, "value": "secret"}, {"option": 3, "value": "no"}],
    }))
    .unwrap();
    let message = answer(&offer, &request(MessageType::Discover, |_| {}));
    for code in [66, 67, 42, 240] {
        assert!(
            message.opts().get(OptionCode::from(code)).is_some(),
            "{code}"
        );
    }
    let router = DhcpOption::Router(vec![Ipv4Addr::new(10, 244, 0, 1)]);
    assert_eq!(message.opts().get(OptionCode::Router), Some(&router));
}

proptest::proptest! {
    #[test]
    fn no_packet_makes_the_server_panic(mut packet in proptest::collection::vec(0u8.., 0..600)) {
        let offer = offer();
        let _ = offer.reply(&packet);
        for (i, byte) in [1, 1, 6].into_iter().enumerate() {
            if let Some(place) = packet.get_mut(i) { *place = byte; }
        }
        for (i, byte) in MAC.into_iter().enumerate() {
            if let Some(place) = packet.get_mut(28 + i) { *place = byte; }
        }
        for (i, byte) in [0x63, 0x82, 0x53, 0x63, 53, 1, 1].into_iter().enumerate() {
            if let Some(place) = packet.get_mut(236 + i) { *place = byte; }
        }
        let _ = offer.reply(&packet);
    }
}
