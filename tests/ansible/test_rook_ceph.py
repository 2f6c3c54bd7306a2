"""What the role rook-ceph renders, against schemas, as Ansible renders it."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import jsonschema
import yaml

import rook_ceph_schemas

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOSTS = """
all:
  hosts:
    first:
      ansible_connection: local
      rook_ceph_disks: [{id: /dev/disk/by-id/nvme-A_1}, {id: /dev/disk/by-id/wwn-0x5000, content: [lvm x]}]
    second:
      ansible_connection: local
    third:
      ansible_connection: local
      rook_ceph_node_name: storage-3
      rook_ceph_disks: [{id: /dev/disk/by-id/ata-B}]
"""
PLAY = [{"hosts": "all", "gather_facts": False,
         "tasks": [{"ansible.builtin.include_role": {"name": "rook-ceph", "tasks_from": "render"}}]}]


class Manifests(unittest.TestCase):
    """Each test renders into a directory of its own."""

    def render(self, **variables):
        """The manifests by file."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in [("hosts.yml", HOSTS), ("play.yml", yaml.safe_dump(PLAY))]:
                with open(os.path.join(scratch, name), "w", encoding="utf-8") as stream:
                    stream.write(text)
            variables |= {"rook_ceph_state_dir": scratch, "ansible_python_interpreter": sys.executable}
            program = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
            done = subprocess.run([program, f"--inventory={scratch}/hosts.yml", f"{scratch}/play.yml",
                                   f"--extra-vars={json.dumps(variables)}"],
                                  cwd=ROOT, capture_output=True, text=True, check=False,
                                  env=os.environ | {"ANSIBLE_CONFIG": f"{ROOT}/ansible.cfg", "ANSIBLE_ROLES_PATH": f"{ROOT}/roles"})
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            found = {}
            for name in rook_ceph_schemas.ALL:
                with open(os.path.join(scratch, "manifests", name), encoding="utf-8") as stream:
                    found[name] = yaml.safe_load(stream)
            return found

    def test_defaults_render_to_valid_manifests_with_the_named_disks_alone(self):
        """Hosts without disks are left out."""
        found = self.render()
        for name, schema in rook_ceph_schemas.ALL.items():
            jsonschema.validate(found[name], schema)
        nodes = found["cluster.yaml"]["spec"]["storage"]["nodes"]
        self.assertEqual([(node["name"], [disk["name"] for disk in node["devices"]]) for node in nodes],
                         [("first", ["/dev/disk/by-id/nvme-A_1", "/dev/disk/by-id/wwn-0x5000"]),
                          ("storage-3", ["/dev/disk/by-id/ata-B"])])
        # And the schema does find a misspelt field.
        found["cluster.yaml"]["spec"]["storage"]["useAllDevice"] = False
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate(found["cluster.yaml"], rook_ceph_schemas.CLUSTER)

    def test_a_mirror_takes_the_place_of_every_host(self):
        """Repository and tag stay."""
        found = self.render(rook_ceph_images_from="registry", rook_ceph_registry="mirror:5000",
                            rook_ceph_mon_count=3, rook_ceph_replica_pool_size=3)
        for name, schema in rook_ceph_schemas.ALL.items():
            jsonschema.validate(found[name], schema)
        self.assertEqual(found["cluster.yaml"]["spec"]["cephVersion"]["image"], "mirror:5000/ceph/ceph:v19.2.3")
        images = [value for key, value in found["images.yaml"]["data"].items() if key.endswith("_IMAGE")]
        self.assertTrue(all(image.startswith("mirror:5000/") for image in images), images)


if __name__ == "__main__":
    unittest.main()
