#!/usr/bin/env python3
"""What edgevirt_preflight takes and gives; its work is done by the action plugin of that name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edgevirt_preflight
short_description: Judge whether a node's hardware can do what is asked of it
description:
  - Runs edgevirt's probe on the node, and edgevirt's judgement of what it found on the machine that runs Ansible.
  - The probe is one static program; the node needs neither Python nor anything else.
  - Nothing on the node changes, so the module does the same in check mode. With I(trial) virtual functions are
    created and removed again; in check mode they are not.
options:
  requirements:
    description: What the node must be able to do, as C(edgevirt preflight --requirements) reads it.
    type: dict
    default: {}
  skip:
    description: Checks to leave out, by id.
    type: list
    elements: str
    default: []
  strict:
    description: A warning fails the task too.
    type: bool
    default: false
  trial:
    description: Try SR-IOV by creating a virtual function, and put everything back.
    type: bool
    default: false
  enforce:
    description: A failing check fails the task. Otherwise it is only returned.
    type: bool
    default: true
  edgevirt:
    description: The installer, on the machine that runs Ansible.
    type: path
    default: edgevirt
  probe:
    description: The probe, on the machine that runs Ansible. Empty for the one beside the installer.
    type: path
    default: ""
author:
  - edgevirt
"""

EXAMPLES = r"""
- name: Judge the hardware
  edgevirt_preflight:
    requirements:
      allow_emulation: false
      hugepages:
        - size: 2097152
          count: 512
  register: hardware

- name: Say which checks warn
  ansible.builtin.debug:
    msg: "{{ hardware.verdicts | selectattr('status', 'equalto', 'warn') | map(attribute='id') }}"
"""

RETURN = r"""
status:
  description: The worst verdict, one of pass, warn, fail.
  type: str
  returned: always
verdicts:
  description: Every verdict with its id, subject, status, evidence, why and remedy.
  type: list
  elements: dict
  returned: always
ansible_facts:
  description: C(edgevirt_preflight) with the status, the verdicts, use_emulation and all that was gathered.
  type: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached where the action plugin beside it is not in Ansible's path."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.fail_json(msg="expected the action plugin edgevirt_preflight; set action_plugins in ansible.cfg to its directory")


if __name__ == "__main__":
    main()
