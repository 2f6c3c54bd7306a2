//! The key that signs tokens: in Secret cdi-api-signing-key, made here once.
//! Source of names: CDI pkg/keys/keystore.go.

use anyhow::{Context, anyhow};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::token::{self, SigningKey};

/// Name of the Secret.
const NAME: &str = "cdi-api-signing-key";
/// Its key of the private key, `RSA PRIVATE KEY` in PEM form.
const PRIVATE: &str = "id_rsa";
/// Its key of the public key, `PUBLIC KEY` in PEM form.
const PUBLIC: &str = "id_rsa.pub";

/// The key in the Secret; a new one when there is no Secret.
///
/// # Errors
/// When the API server cannot be asked or refuses, or the Secret holds no key.
pub(super) async fn get_or_make(
    client: &kube::Client,
    namespace: &str,
) -> anyhow::Result<SigningKey> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets.get_opt(NAME).await;
    let secret = match found.with_context(|| format!("reading Secret {namespace}/{NAME}"))? {
        Some(secret) => secret,
        None => make(&secrets)
            .await
            .with_context(|| format!("making Secret {namespace}/{NAME}"))?,
    };
    let pem = secret
        .data
        .as_ref()
        .and_then(|data| data.get(PRIVATE))
        .ok_or_else(|| {
            anyhow!("expected key {PRIVATE} in Secret {namespace}/{NAME}, found none")
        })?;
    SigningKey::from_pem(&pem.0).with_context(|| {
        format!("Secret {namespace}/{NAME}, key {PRIVATE}; delete the Secret to get a new key")
    })
}

async fn make(secrets: &Api<Secret>) -> anyhow::Result<Secret> {
    let key = tokio::task::spawn_blocking(token::generate).await??;
    let data = [(PRIVATE, key.private), (PUBLIC, key.public)];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(
                [
                    ("app.kubernetes.io/managed-by", "cdi-apiserver"),
                    ("app.kubernetes.io/component", "storage"),
                    ("cdi.kubevirt.io", ""),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(
            data.map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes())))
                .into(),
        ),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(secret) => {
            tracing::info!(name = NAME, "made a key for upload tokens");
            Ok(secret)
        }
        // Another replica was faster: its key is the key.
        Err(error) if kube_kit::is_conflict(&error) => Ok(secrets.get(NAME).await?),
        Err(error) => Err(error.into()),
    }
}
