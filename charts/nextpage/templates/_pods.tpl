{{/* An image's reference. Of (list $ "control"). */}}
{{- define "nextpage.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $repository := $image.repository -}}
{{- if ne (index . 1) "redis" -}}{{- $repository = printf "%s/%s" $root.Values.images.registry $repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else if $root.Values.images.requireDigests -}}
{{- fail (printf "images.%s.digest is empty and images.requireDigests is true: add the digest file that `make images` writes (-f build/images/digests.yaml)" (index . 1)) -}}
{{- else if eq $image.tag "latest" -}}
{{- fail (printf "images.%s.tag is latest, which moves: name a version or a digest" (index . 1)) -}}
{{- else -}}
{{- printf "%s:%s" $repository ($image.tag | default (printf "%s-python3.11" $root.Chart.AppVersion)) -}}
{{- end -}}
{{- end }}

{{- define "nextpage.container.image" -}}
image: {{ include "nextpage.image" . | quote }}
imagePullPolicy: {{ (index . 0).Values.images.pullPolicy }}
{{- end }}

{{/* Label of a pod that ends: a sidecar that goes on would keep it from ever being complete. */}}
{{- define "nextpage.pod.ends" -}}
sidecar.istio.io/inject: "false"
{{- end }}

{{- define "nextpage.pod.security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* As serving/rollout writes it. */}}
{{- define "nextpage.container.security" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What every pod of the chart begins with. Of (list $ "service account"); empty: the namespace's own. */}}
{{- define "nextpage.pod" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
serviceAccountName: {{ include "nextpage.fullname" $root }}-{{ . }}
{{ end -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "nextpage.pod.security" $root | nindent 2 }}
{{- end }}

{{/* Requests are limits. Of (dict "cpu" … "memory" … "gpus" …). */}}
{{- define "nextpage.resources" -}}
{{- $dict := . -}}
{{- range list "requests" "limits" }}
{{ . }}:
  cpu: {{ $dict.cpu | quote }}
  memory: {{ $dict.memory }}
  {{- if $dict.gpus }}
  nvidia.com/gpu: {{ $dict.gpus | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What a client of the Kubernetes API reads: mounted only where one runs. */}}
{{- define "nextpage.api.token" -}}
- name: api
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
