{{/* The descriptor, as the platform's onboarder reads it; YAML. */}}
{{- define "distila.descriptor" -}}
{{- .Files.Get "descriptor/config-file.json" -}}
{{- end -}}

{{/* Its controls with the values' config laid over them; YAML. Without RMR there is no platform to register at. */}}
{{- define "distila.controls" -}}
{{- $descriptor := include "distila.descriptor" . | fromJson -}}
{{- $controls := mergeOverwrite (deepCopy $descriptor.controls) .Values.config -}}
{{- if and (ne $controls.e2.transport "rmr") (not (hasKey .Values.config "ric")) -}}
{{- $controls = omit $controls "ric" -}}
{{- end -}}
{{- if hasKey $controls "ric" -}}
{{- $host := printf "service-%s-http.%s" (include "distila.fullname" .) .Release.Namespace -}}
{{- $known := dict "app_name" $descriptor.name "host" $host -}}
{{- if or .Values.policies.configMaps .Values.policies.claim -}}
{{- $_ := set $known "policies" "/opt/distila/policies" -}}
{{- end -}}
{{- $_ := set $controls "ric" (merge $controls.ric $known) -}}
{{- end -}}
{{- if and .Values.store.enabled (hasKey $controls "rollout") -}}
{{- $_ := set $controls "rollout" (merge $controls.rollout (dict "store" "/var/lib/distila/rollout.sqlite")) -}}
{{- end -}}
{{- $controls | toYaml -}}
{{- end -}}

{{/* <namespace>-<name>, as the platform's own charts have it; ricxapp-distila in namespace ricxapp. */}}
{{- define "distila.fullname" -}}
{{- $descriptor := include "distila.descriptor" . | fromJson -}}
{{- printf "%s-%s" .Release.Namespace $descriptor.name -}}
{{- end -}}

{{- define "distila.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "distila.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What never changes over the life of a release. */}}
{{- define "distila.selector" -}}
app: {{ include "distila.fullname" . }}
release: {{ .Release.Name }}
{{- end -}}

{{- define "distila.labels" -}}
{{ include "distila.selector" . }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
