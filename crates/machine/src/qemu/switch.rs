//! QEMU's switches, one type each, fields named as QEMU's parameters.

use serde_json::Value;

/// Something that becomes a switch and its argument.
pub trait Switch {
    /// Appends the switch and its argument.
    fn push(&self, argv: &mut Vec<String>);
}

/// `key=value` pairs after an optional first word; commas in values are doubled,
/// which is how QEMU takes them literally.
#[derive(Clone, Debug, Default)]
struct Params(String);

impl Params {
    fn new(first: &str) -> Self {
        Self(first.replace(',', ",,"))
    }

    #[allow(clippy::needless_pass_by_value)] // Numbers and words, at their place of use.
    fn add<T: ToString>(&mut self, key: &str, value: T) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&value.to_string().replace(',', ",,"));
    }

    fn add_if<T: ToString>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }
}

/// A switch without an argument, such as `-nodefaults`.
#[derive(Clone, Copy, Debug)]
pub struct Flag(pub &'static str);

impl Switch for Flag {
    fn push(&self, argv: &mut Vec<String>) {
        argv.push(self.0.to_owned());
    }
}

/// A switch whose argument is one word.
#[derive(Clone, Debug)]
pub struct Word(pub &'static str, pub String);

impl Switch for Word {
    fn push(&self, argv: &mut Vec<String>) {
        argv.push(self.0.to_owned());
        argv.push(self.1.clone());
    }
}

/// A switch with `key=value` pairs, for those with few uses: `-name`, `-rtc`,
/// `-smbios`, `-object`, `-chardev`, `-netdev`, `-global`, `-add-fd`, `-drive`.
#[derive(Clone, Debug)]
pub struct Pairs {
    switch: &'static str,
    params: Params,
}

impl Pairs {
    /// `switch first`, where `first` may be empty.
    #[must_use]
    pub fn new(switch: &'static str, first: &str) -> Self {
        Self {
            switch,
            params: Params::new(first),
        }
    }

    /// With one more pair.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.params.add(key, value);
        self
    }

    /// With one more pair, when there is a value.
    #[must_use]
    pub fn with_some<T: ToString>(mut self, key: &str, value: Option<T>) -> Self {
        self.params.add_if(key, value);
        self
    }
}

impl Switch for Pairs {
    fn push(&self, argv: &mut Vec<String>) {
        argv.push(self.switch.to_owned());
        argv.push(self.params.0.clone());
    }
}

/// `-machine`.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Machine type.
    pub type_: String,
    /// ACPI tables.
    pub acpi: Option<bool>,
    /// System management mode.
    pub smm: Option<bool>,
    /// The chipset's AHCI controller.
    pub sata: Option<bool>,
    /// VMware's port.
    pub vmport: Option<bool>,
    /// Guest memory in core dumps.
    pub dump_guest_core: Option<bool>,
    /// Node of the firmware.
    pub pflash0: Option<String>,
    /// Node of the firmware's variables.
    pub pflash1: Option<String>,
}

impl Switch for Machine {
    fn push(&self, argv: &mut Vec<String>) {
        let mut params = Params::new("");
        params.add("type", &self.type_);
        params.add_if("acpi", self.acpi.map(on));
        params.add_if("smm", self.smm.map(on));
        params.add_if("sata", self.sata.map(on));
        params.add_if("vmport", self.vmport.map(on));
        params.add_if("dump-guest-core", self.dump_guest_core.map(on));
        params.add_if("pflash0", self.pflash0.as_ref());
        params.add_if("pflash1", self.pflash1.as_ref());
        argv.extend(["-machine".to_owned(), params.0]);
    }
}

/// `-accel`.
#[derive(Clone, Copy, Debug)]
pub enum Accel {
    /// The kernel's.
    Kvm,
    /// Translation.
    Tcg {
        /// MiB of translated code.
        tb_size: u64,
    },
}

impl Switch for Accel {
    fn push(&self, argv: &mut Vec<String>) {
        let argument = match self {
            Self::Kvm => "kvm".to_owned(),
            // With a thread for each vCPU QEMU 10.0 now and then ends itself while the
            // firmware maps a device (`iotlb_to_section: Assertion`).
            Self::Tcg { tb_size } => format!("tcg,tb-size={tb_size},thread=single"),
        };
        argv.extend(["-accel".to_owned(), argument]);
    }
}

/// `-cpu`.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Model.
    pub model: String,
    /// Leave out what cannot migrate.
    pub migratable: Option<bool>,
    /// Flags switched on or off.
    pub features: Vec<(String, bool)>,
    /// Refuse to start when a flag is missing.
    pub enforce: bool,
}

impl Switch for Cpu {
    fn push(&self, argv: &mut Vec<String>) {
        let mut params = Params::new(&self.model);
        params.add_if("migratable", self.migratable.map(on));
        for (name, enabled) in &self.features {
            params.add(name, on(*enabled));
        }
        if self.enforce {
            params.0.push_str(",enforce");
        }
        argv.extend(["-cpu".to_owned(), params.0]);
    }
}

/// `-smp`.
#[derive(Clone, Copy, Debug)]
pub struct Smp {
    /// vCPUs in all.
    pub cpus: u32,
    /// Sockets.
    pub sockets: u32,
    /// Cores in a socket.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

impl Switch for Smp {
    fn push(&self, argv: &mut Vec<String>) {
        let mut params = Params::new("");
        params.add("cpus", self.cpus);
        params.add("sockets", self.sockets);
        params.add("cores", self.cores);
        params.add("threads", self.threads);
        argv.extend(["-smp".to_owned(), params.0]);
    }
}

/// `-device`.
#[derive(Clone, Debug)]
pub struct Device(Params);

impl Device {
    /// A device of this driver, with this id.
    #[must_use]
    pub fn new(driver: &str, id: &str) -> Self {
        let mut params = Params::new(driver);
        params.add("id", id);
        Self(params)
    }

    /// With one more property.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.0.add(key, value);
        self
    }

    /// With one more property, when there is a value.
    #[must_use]
    pub fn with_some<T: ToString>(mut self, key: &str, value: Option<T>) -> Self {
        self.0.add_if(key, value);
        self
    }
}

impl Switch for Device {
    fn push(&self, argv: &mut Vec<String>) {
        argv.extend(["-device".to_owned(), self.0.0.clone()]);
    }
}

/// `-blockdev`, in JSON.
#[derive(Clone, Debug)]
pub struct Blockdev(pub Value);

impl Switch for Blockdev {
    fn push(&self, argv: &mut Vec<String>) {
        argv.extend(["-blockdev".to_owned(), self.0.to_string()]);
    }
}

/// QEMU's word for a switch.
#[must_use]
pub fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}
