#!/usr/bin/python3
"""Reads what oslo.config makes of configurations.

Standard input is a JSON object of lists: name of a case, texts of its files.
Standard output is one of objects: what each key of each section is, as
"section/key", null where it has no value that can be used; or null for
files that cannot be read. A key's prefix says what kind of option it is.
"""
import json
import os
import sys
import tempfile

from oslo_config import cfg

KINDS = {'bool': cfg.BoolOpt, 'list': cfg.ListOpt, 'int': cfg.IntOpt,
         'multi': cfg.MultiStrOpt}


def read(texts):
    with tempfile.TemporaryDirectory() as directory:
        args = []
        for i, text in enumerate(texts):
            path = os.path.join(directory, '%d.conf' % i)
            with open(path, 'w', encoding='utf-8', newline='') as f:
                f.write(text)
            args += ['--config-file', path]
        conf = cfg.ConfigOpts()
        try:
            conf(args, project='none', default_config_files=[],
                 default_config_dirs=[])
        except cfg.ConfigFileParseError:
            return None
        keys = sorted({(section, key)
                       for parsed in conf._namespace._normalized
                       for section in parsed for key in parsed[section]})
        for section, key in keys:
            kind = KINDS.get(key.split('_')[0], cfg.StrOpt)
            conf.register_opt(
                kind(key), group=None if section == 'DEFAULT' else section)
        return {section + '/' + key: value(conf, section, key)
                for section, key in keys}


def value(conf, section, key):
    try:
        return conf[key] if section == 'DEFAULT' else conf[section][key]
    except (cfg.Error, ValueError, RecursionError):
        return None


json.dump({name: read(texts) for name, texts in json.load(sys.stdin).items()},
          sys.stdout, indent=1, sort_keys=True)
