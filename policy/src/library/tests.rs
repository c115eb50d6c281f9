use super::*;
use crate::rule::{Direction, Protocol};
use crate::tuple::Tuple;

const SHOP: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: red}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop, annotations: {noise: much}}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}], ports: [{port: 80}]}]
";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

fn pod(name: &str, app: &str, address: &str) -> LocalPod {
    let (namespace, name) = name.split_once('/').unwrap();
    LocalPod::new((namespace, name), labels(&[("app", app)]), vec![address.parse().unwrap()]).unwrap()
}

/// Whether shop/web takes a connection from there, by its program; the facts say so too.
fn enters(library: &mut Library, source: &str) -> bool {
    drop(library.compile());
    let [source, destination] = [source, "10.0.0.1"].map(|text| text.parse::<IpAddr>().unwrap());
    let tuple = Tuple::with_ports(Protocol::TCP, (source, 9999).into(), (destination, 80).into()).unwrap();
    let book = library.book();
    let verdict = book.programs("shop/web").unwrap().ingress.decide(book.peers(), &tuple);
    assert_eq!(verdict.allow, book.explain("shop/web", Direction::Ingress, &tuple).unwrap().allow);
    verdict.allow
}

fn shop() -> Library {
    let mut library = Library::new();
    library.apply(SHOP).unwrap().forget();
    library.attach(pod("shop/web", "web", "10.0.0.1"));
    library.attach(pod("shop/buyer", "buyer", "10.0.0.2"));
    library.attach(pod("other/stranger", "buyer", "10.0.0.3"));
    library
}

#[test]
fn attached_pods_inherit_from_their_namespace_whichever_comes_first() {
    let mut first = Library::new();
    for name in ["shop/web", "shop/buyer", "other/stranger"] {
        let app = if name == "shop/web" { "web" } else { "buyer" };
        let address = ["shop/web", "shop/buyer", "other/stranger"].iter().position(|one| *one == name).unwrap() + 1;
        first.attach(pod(name, app, &format!("10.0.0.{address}")));
    }
    assert!(enters(&mut first, "10.0.0.3"));
    first.apply(SHOP).unwrap().forget();
    for library in [&mut first, &mut shop()] {
        assert!(enters(library, "10.0.0.2"));
        assert!(!enters(library, "10.0.0.3"));
        assert!(!enters(library, "192.0.2.1"));
    }
    assert_eq!(first.book().facts(), shop().book().facts());
}

#[test]
fn a_namespace_that_changes_its_labels_changes_who_may_enter() {
    let mut library = shop();
    let other = "{apiVersion: v1, kind: Namespace, metadata: {name: other, labels: {team: red}}}";
    library.apply(other).unwrap().forget();
    assert!(enters(&mut library, "10.0.0.3"));
    library.remove(&["namespace/shop".into()]).unwrap().forget();
    assert!(!enters(&mut library, "10.0.0.2"));
}

#[test]
fn documents_of_pods_elsewhere_make_them_known() {
    let mut library = shop();
    let far = "{apiVersion: v1, kind: Pod, metadata: {name: far, namespace: shop}, status: {podIP: 10.0.9.9}}";
    let before = library.apply(far).unwrap();
    assert!(enters(&mut library, "10.0.9.9"));
    library.revert(before);
    assert!(!enters(&mut library, "10.0.9.9"));
}

#[test]
fn a_document_of_an_attached_pod_adds_labels_and_ports_and_no_address() {
    let mut library = shop();
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: open}},
        spec: {containers: [{ports: [{name: http, containerPort: 80}]}]}, status: {podIP: 10.0.9.9}}";
    library.apply(text).unwrap().forget();
    let endpoint = &library.book().facts().endpoints["shop/web"];
    assert_eq!(endpoint.labels["app"], "open".into());
    assert_eq!((endpoint.addresses.clone(), endpoint.ports.len()), (vec!["10.0.0.1".parse().unwrap()], 1));
    assert!(enters(&mut library, "192.0.2.1"));
    library.detach("shop/web");
    assert!(!library.book().facts().endpoints["shop/web"].is_local);
    library.remove(&["pod/shop/web".into()]).unwrap().forget();
    assert!(!library.book().facts().endpoints.contains_key("shop/web"));
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut library = shop();
    let names = |library: &Library| library.documents().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (facts, before) = (library.book().facts().clone(), names(&library));
    let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: first}, spec: {order: 1}}";
    let rules = "{action: Allow},".repeat(crate::book::RULES_MAX + 1);
    let many = format!(
        "{{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {{name: many}}, spec: {{ingress: [{rules}]}}}}"
    );
    let wrong = "{apiVersion: v1, kind: Secret, metadata: {name: key}}";
    for (last, said) in
        [(tier, "tier/first is given twice"), (&many, "globalnetworkpolicy/many has"), (wrong, "Secret")]
    {
        let error = library.apply(&format!("{tier}\n---\n{last}")).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!((library.book().facts(), names(&library)), (&facts, before.clone()));
    }
    let absent = library.remove(&["namespace/shop".into(), "tier/none".into()]).unwrap_err();
    assert_eq!(absent.to_string(), "there is no tier/none");
    assert_eq!(names(&library), before);
}

#[test]
fn a_reverted_change_leaves_what_was_there() {
    let mut library = shop();
    let facts = library.book().facts().clone();
    let text = "
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {defaultAction: Pass}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: shop}, spec: {podSelector: {}}}
---
{apiVersion: projectcalico.org/v3, kind: NetworkSet, metadata: {name: some, namespace: shop}, spec: {nets: [192.0.2.0/24]}}
";
    let before = library.apply(text).unwrap();
    assert!(enters(&mut library, "192.0.2.1"));
    library.revert(before);
    assert_eq!(library.book().facts(), &facts);
    assert!(enters(&mut library, "10.0.0.2") && !enters(&mut library, "192.0.2.1"));
}

#[test]
fn sources_read_as_what_they_came_from() {
    let mut library = shop();
    let listed =
        "{apiVersion: v1, kind: PodList, items: [{metadata: {name: far, uid: abc}, status: {podIP: 10.0.9.9}}]}";
    library.apply(listed).unwrap().forget();
    let sources: Vec<&str> = library.documents().map(|(_, entry)| &*entry.source).collect();
    assert!(sources.iter().all(|source| !source.contains("noise") && !source.contains("uid")), "{sources:?}");
    let mut again = shop();
    again.apply(&sources.join("\n---\n")).unwrap().forget();
    assert_eq!(again.book().facts(), library.book().facts());
}

#[test]
fn nobody_labels_a_pod_into_another_namespace() {
    for key in ["pcns.team", "projectcalico.org/namespace", "projectcalico.org/serviceaccount"] {
        assert_eq!(LocalPod::new(("shop", "web"), labels(&[(key, "x")]), Vec::new()), None);
    }
}
