//! Links, addresses and routes of the calling thread's network namespace, over
//! rtnetlink(7). Calls block: use them inside [`crate::netns::run_in`].

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, RouteMessageBuilder};

/// A hardware address.
pub type Mac = [u8; 6];

/// Main routing table (rtnetlink(7), RT_TABLE_MAIN).
const TABLE_MAIN: u32 = 254;

/// Why the network could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The runtime or the netlink socket.
    #[error("opening a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel refused.
    #[error("{action}")]
    Netlink {
        /// What was wanted.
        action: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address; zero when it has none.
    pub mac: Mac,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
}

/// An IPv4 route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; 0.0.0.0 with prefix length 0 is the default.
    pub destination: Ipv4Addr,
    /// Prefix length of the destination.
    pub prefix_len: u8,
    /// Next hop; absent when the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// Index of the interface.
    pub interface: u32,
}

/// A netlink socket in the namespace of the thread that opened it.
pub struct Links {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
}

impl Links {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn open() -> Result<Self, LinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LinkError::Socket)?;
        let handle = {
            let _context = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
            runtime.spawn(connection);
            handle
        };
        Ok(Self { runtime, handle })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn list(&self) -> Result<Vec<Link>, LinkError> {
        let links: Vec<LinkMessage> = self.run(
            "listing links",
            self.handle.link().get().execute().try_collect(),
        )?;
        Ok(links.iter().map(link).collect())
    }

    /// The interface of that name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        Ok(self.list()?.into_iter().find(|link| link.name == name))
    }

    /// IPv4 addresses of an interface, with prefix lengths.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn addresses(&self, index: u32) -> Result<Vec<(Ipv4Addr, u8)>, LinkError> {
        let request = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        let messages: Vec<_> = self.run(
            &format!("listing addresses of link {index}"),
            request.try_collect(),
        )?;
        let mut found = Vec::new();
        for message in messages {
            if message.header.family != AddressFamily::Inet {
                continue;
            }
            // IFA_LOCAL is the interface's own address; IFA_ADDRESS the peer's on point-to-point links.
            let mut local = None;
            let mut other = None;
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => local = Some(*address),
                    AddressAttribute::Address(IpAddr::V4(address)) => other = Some(*address),
                    _ => {}
                }
            }
            if let Some(address) = local.or(other) {
                found.push((address, message.header.prefix_len));
            }
        }
        Ok(found)
    }

    /// IPv4 unicast routes of the main table through an interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn routes(&self, index: u32) -> Result<Vec<Route>, LinkError> {
        let request = self
            .handle
            .route()
            .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
            .execute();
        let messages: Vec<RouteMessage> = self.run("listing routes", request.try_collect())?;
        Ok(messages
            .iter()
            .filter_map(route)
            .filter(|route| route.interface == index)
            .collect())
    }

    /// Adds an IPv4 address; one that is there already is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_address(
        &self,
        index: u32,
        address: Ipv4Addr,
        prefix_len: u8,
    ) -> Result<(), LinkError> {
        let request = self
            .handle
            .address()
            .add(index, IpAddr::V4(address), prefix_len)
            .replace()
            .execute();
        self.run(
            &format!("adding {address}/{prefix_len} to link {index}"),
            request,
        )
    }

    /// Removes all IPv4 addresses of an interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flush_addresses(&self, index: u32) -> Result<(), LinkError> {
        let action = format!("removing the addresses of link {index}");
        let request = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        let messages: Vec<_> = self.run(&action, request.try_collect())?;
        for message in messages {
            if message.header.family == AddressFamily::Inet {
                self.run(&action, self.handle.address().del(message).execute())?;
            }
        }
        Ok(())
    }

    /// Makes a bridge that is up, without spanning tree or forward delay, so
    /// that a port forwards as soon as it is attached.
    ///
    /// # Errors
    /// When the name is taken or the kernel refuses.
    pub fn add_bridge(&self, name: &str, mac: Mac, mtu: u32) -> Result<(), LinkError> {
        let message = LinkBridge::new(name)
            .address(mac.to_vec())
            .mtu(mtu)
            .mcast_snooping(false)
            .build();
        self.run(
            &format!("making bridge {name}"),
            self.handle.link().add(message).execute(),
        )
    }

    /// Removes an interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, index: u32) -> Result<(), LinkError> {
        self.run(
            &format!("removing link {index}"),
            self.handle.link().del(index).execute(),
        )
    }

    /// Makes an interface a port of a bridge.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(&self, index: u32, bridge: u32) -> Result<(), LinkError> {
        self.set(
            LinkUnspec::new_with_index(index).controller(bridge).build(),
            &format!("attaching link {index}"),
        )
    }

    /// Whether a bridge learns addresses behind this port.
    ///
    /// # Errors
    /// When the interface is no port of a bridge or the kernel refuses.
    pub fn set_learning(&self, index: u32, learning: bool) -> Result<(), LinkError> {
        let message = LinkBridgePort::new(index).learning(learning).build();
        let request = self.handle.link().set_port(message).execute();
        self.run(&format!("setting learning of bridge port {index}"), request)
    }

    /// Sets the interface up or down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_up(&self, index: u32, up: bool) -> Result<(), LinkError> {
        let builder = LinkUnspec::new_with_index(index);
        let message = if up { builder.up() } else { builder.down() }.build();
        self.set(
            message,
            &format!("setting link {index} {}", if up { "up" } else { "down" }),
        )
    }

    /// Renames an interface, which must be down.
    ///
    /// # Errors
    /// When the name is taken or the kernel refuses.
    pub fn rename(&self, index: u32, name: &str) -> Result<(), LinkError> {
        self.set(
            LinkUnspec::new_with_index(index).name(name).build(),
            &format!("renaming link {index} to {name}"),
        )
    }

    /// Sets the hardware address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mac(&self, index: u32, mac: Mac) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index)
            .address(mac.to_vec())
            .build();
        self.set(
            message,
            &format!("setting the hardware address of link {index}"),
        )
    }

    /// Sets the largest packet, bytes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), LinkError> {
        self.set(
            LinkUnspec::new_with_index(index).mtu(mtu).build(),
            &format!("setting the MTU of link {index}"),
        )
    }

    fn set(&self, message: LinkMessage, action: &str) -> Result<(), LinkError> {
        self.run(action, self.handle.link().set(message).execute())
    }

    fn run<T>(
        &self,
        action: &str,
        future: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, LinkError> {
        self.runtime
            .block_on(future)
            .map_err(|source| LinkError::Netlink {
                action: action.to_owned(),
                source,
            })
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        controller: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                link.mac = Mac::try_from(bytes.as_slice()).unwrap_or_default()
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            _ => {}
        }
    }
    link
}

fn route(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast
        || message.header.address_family != AddressFamily::Inet
    {
        return None;
    }
    let mut table = u32::from(message.header.table);
    let mut interface = 0;
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(index) => interface = *index,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            _ => {}
        }
    }
    (table == TABLE_MAIN).then_some(Route {
        destination,
        prefix_len: message.header.destination_prefix_length,
        gateway,
        interface,
    })
}
