//! Certificates of upload servers, and of the pods that send clones to them. They are never read
//! again: a new controller makes new ones.

use std::path::PathBuf;

use api::cdi::names::{
    CA_BUNDLE_KEY, FIELD_MANAGER, UPLOAD_CLIENT_CA_BUNDLE, UPLOAD_SERVER_SIGNER,
};
use decide::cdi::worker::Job;
use decide::cdi::{across, worker};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube_kit::certs::{Leaf, Pair, Usage, leaf};

use super::act::{Actor, Problem, VALID};
use super::world::Name;

impl Actor {
    /// Makes a certificate for the claim's upload server.
    pub(super) async fn certify(&self, name: &Name) -> Result<(), Problem> {
        let claim = self
            .world
            .borrow()
            .claim(name)
            .cloned()
            .ok_or(Problem::NoClaim)?;
        let signer = self.certificates.join(UPLOAD_SERVER_SIGNER);
        let authority = Pair {
            certificate: read(signer.join("tls.crt"))?,
            key: read(signer.join("tls.key"))?,
        };
        let now = Timestamp::now();
        let client_ca = if matches!(Job::of(&claim), Some(Job::Receive { .. })) {
            // The one client is certified by the same authority, which the proxy's is not.
            self.certify_sender(name, &claim, &authority, now).await?;
            authority.certificate.clone()
        } else {
            let bundle = self.certificates.join(UPLOAD_CLIENT_CA_BUNDLE);
            read(bundle.join(CA_BUNDLE_KEY))?
        };
        let names = worker::server_names(&claim);
        let wanted = Leaf {
            common_name: names.last().map(String::as_str).unwrap_or_default(),
            dns_names: &names,
            usage: Usage::Server,
        };
        let made = leaf(&authority, &wanted, now, VALID)?;
        let secret = worker::certificate(&claim, &made.certificate, &made.key, &client_ca);
        self.applier(FIELD_MANAGER)
            .apply_over(&secret, None)
            .await?;
        self.world.borrow_mut().certified(name, now);
        Ok(())
    }

    /// Makes the certificate of the pod that sends to the claim's server: by its name it is good
    /// for this server only.
    async fn certify_sender(
        &self,
        name: &Name,
        claim: &PersistentVolumeClaim,
        authority: &Pair,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let sender = self.world.borrow().sender(name).cloned();
        let sender = sender.ok_or(Problem::NoSender)?;
        let wanted = Leaf {
            common_name: &across::client_name(claim),
            dns_names: &[],
            usage: Usage::Client,
        };
        let made = leaf(authority, &wanted, now, VALID)?;
        let secret = across::certificate(
            &sender,
            &made.certificate,
            &made.key,
            &authority.certificate,
        );
        self.applier(FIELD_MANAGER)
            .apply_over(&secret, None)
            .await?;
        Ok(())
    }
}

fn read(path: PathBuf) -> Result<String, Problem> {
    std::fs::read_to_string(&path).map_err(|error| Problem::Authority { path, error })
}
