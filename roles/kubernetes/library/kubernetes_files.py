#!/usr/bin/python
# -*- coding: utf-8 -*-
"""Many small files in one call: a task for each would cost a run seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubernetes_files
short_description: Keep directories and text files as given
description:
  - Makes directories and writes files whose content or mode differs from what is
    asked for, each by a rename, all in one call.
options:
  directories:
    description: Directories, parents before children.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      mode:
        description: Its rights, as four octal digits.
        type: str
        default: "0755"
  files:
    description: Files; their directories must exist or be among C(directories).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      content:
        description: Its whole text.
        type: str
        required: true
      mode:
        description: Its rights, as four octal digits.
        type: str
        default: "0644"
author:
  - edgevirt
"""

EXAMPLES = r"""
- name: One file in a new directory
  kubernetes_files:
    directories:
      - path: /etc/edgevirt
    files:
      - path: /etc/edgevirt/greeting
        content: "hello\n"
"""

RETURN = r"""
written:
  description: Paths that were, or in check mode would be, made or changed.
  returned: always
  type: list
  elements: str
"""

import os
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule


def read(path):
    """The text of a file, or none where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def has_mode(path, mode):
    """Whether a path exists with these rights."""
    return os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) == mode


def write(path, content, mode):
    """Writes a file by a rename, never visible with wider rights."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(content)
    os.chmod(temporary, mode)
    os.rename(temporary, path)


def main():
    """Entry point."""
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "default": [], "options": {
                "path": path, "mode": {"type": "str", "default": "0755"}}},
            "files": {"type": "list", "elements": "dict", "default": [], "options": {
                "path": path, "content": {"type": "str", "required": True},
                "mode": {"type": "str", "default": "0644"}}},
        },
        supports_check_mode=True,
    )
    written, diff = [], []
    for item in module.params["directories"]:
        mode = int(item["mode"], 8)
        if not has_mode(item["path"], mode):
            written.append(item["path"])
            if not module.check_mode:
                os.makedirs(item["path"], exist_ok=True)
                os.chmod(item["path"], mode)
    for item in module.params["files"]:
        mode, old = int(item["mode"], 8), read(item["path"])
        if old != item["content"] or not has_mode(item["path"], mode):
            written.append(item["path"])
            diff.append({"before_header": item["path"], "after_header": item["path"],
                         "before": old or "", "after": item["content"]})
            if not module.check_mode:
                write(item["path"], item["content"], mode)
    module.exit_json(changed=bool(written), written=written, diff=diff)


if __name__ == "__main__":
    main()
