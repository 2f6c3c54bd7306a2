//! Authorization of a user's request to an aggregated API: one
//! SubjectAccessReview.

use serde_json::{Value, json};

use crate::front_proxy::User;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Asks the API server whether `user` may do what `attributes`
/// (`spec.resourceAttributes` of the review) say: `None` when allowed, else the
/// API server's reason, which may be empty.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn review(
    client: &kube::Client,
    user: &User,
    attributes: Value,
) -> kube::Result<Option<String>> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user.name,
            "groups": user.groups,
            "extra": user.extra,
            "resourceAttributes": attributes,
        },
    });
    let body = serde_json::to_vec(&review).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(REVIEWS)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    let answer: Value = client.request(request).await?;
    if answer["status"]["allowed"] == true {
        return Ok(None);
    }
    Ok(Some(
        answer["status"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    ))
}
