//! Requests to the API server, from its own metrics.

use std::time::Duration;

use anyhow::Context;
use kube::api::PostParams;

use crate::report::Report;
use crate::start::until_running;
use crate::world::World;

/// Sum of apiserver_request_total without leases, watches, the benchmark's own look at the
/// metrics, and the reads by which the API server keeps the endpoints of its own Service
/// (two in ten seconds; nobody else reads one of these by name).
pub(crate) async fn total(world: &World) -> anyhow::Result<f64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = world
        .client
        .request_text(request)
        .await
        .context("metrics of the API server")?;
    Ok(sum(&text))
}

/// Adds up the counter's lines that count.
fn sum(text: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| {
            let is = |label: &str, value: &str| {
                [",", "{"]
                    .iter()
                    .any(|before| line.contains(&format!("{before}{label}=\"{value}\"")))
            };
            !is("resource", "leases")
                && !is("verb", "WATCH")
                && !is("verb", "CONNECT")
                && !is("resource", "")
                && !(is("verb", "GET")
                    && (is("resource", "endpoints") || is("resource", "endpointslices")))
        })
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// Requests of all clients for the creation of one VMI, the idle rate taken off.
pub(crate) async fn one_vmi(world: &World, report: &mut Report) -> anyhow::Result<()> {
    const WINDOW: Duration = Duration::from_secs(20);
    world.empty().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let start = total(world).await?;
    tokio::time::sleep(WINDOW).await;
    let idle = total(world).await? - start;
    let start = total(world).await?;
    let began = tokio::time::Instant::now();
    world
        .vmis()
        .create(&PostParams::default(), &World::vmi("requests")?)
        .await?;
    // The window is closed by time, not by asking: asking would be counted.
    tokio::time::sleep_until(began + WINDOW).await;
    let created = total(world).await? - start - idle;
    until_running(world, &["requests".to_owned()]).await?;
    report.compare(
        "API requests for one VMI, all clients",
        "requests",
        created,
        24.0,
        ("upstream", 46.0),
    );
    world.empty().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_watches_and_non_resources_are_not_counted() {
        let text = r#"# HELP apiserver_request_total x
apiserver_request_total{resource="pods",subresource="",verb="POST"} 2
apiserver_request_total{resource="pods",subresource="status",verb="PATCH"} 3
apiserver_request_total{resource="endpoints",subresource="",verb="GET"} 40
apiserver_request_total{resource="leases",subresource="",verb="PUT"} 50
apiserver_request_total{resource="pods",verb="WATCH"} 7
apiserver_request_total{resource="",verb="GET"} 9
"#;
        assert!((sum(text) - 5.0).abs() < f64::EPSILON);
    }
}
