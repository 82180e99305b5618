"""The GLM family: what differs between its members in text. One member is one file; `known` lists them."""
